"""Calls by KServe's REST client, in a separate process as those of its gRPC client."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

MODEL = "sales_forecast_de"
TENSORS = {
    "history": ("FP32", np.full((1, 28), 100, np.float32)),
    "price": ("FP32", np.full((1, 7), 2, np.float32)),
    "promotion": ("BOOL", np.zeros((1, 7), bool)),
}


def request(binary_data: bool) -> InferRequest:
    inputs = []
    for name, (datatype, array) in TENSORS.items():
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary_data)
        inputs.append(tensor)
    return InferRequest(MODEL, inputs)


async def main(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    answers = [await client.infer(url, request(binary), model_name=MODEL) for binary in (False, True)]
    said = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, MODEL),
        "totals": [next(each.data for each in answer.outputs if each.name == "total") for answer in answers],
    }
    print(json.dumps(said))


asyncio.run(main(sys.argv[1]))
