"""The messages of tritonclient under the name that they give themselves: Ray sends them between processes by that name."""

from tritonclient.grpc.service_pb2 import *  # noqa: F403
