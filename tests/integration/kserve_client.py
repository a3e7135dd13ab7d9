"""Calls by KServe's client, in a separate process, since it and `tritonclient` register the same protobuf package."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

TENSORS = {
    "history": ("FP32", np.full((1, 28), 100, np.float32)),
    "price": ("FP32", np.full((1, 7), 2, np.float32)),
    "promotion": ("BOOL", np.zeros((1, 7), bool)),
}
MODEL = "sales_forecast_de"


def request(binary_data: bool, **more: object) -> InferRequest:
    """Build a request with raw contents if `binary_data`, else with typed ones."""
    inputs = []
    for name, (datatype, array) in TENSORS.items():
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary_data)
        inputs.append(tensor)
    return InferRequest(MODEL, inputs, **more)


async def main(address: str) -> None:
    client = InferenceGRPCClient(address)
    answer = await client.infer(request(True))
    typed = await client.infer(request(False))
    routed = await client.infer(request(True, request_id="7", parameters={"route": "DE"}))
    pairs = zip(answer.outputs, typed.outputs, strict=True)
    said = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready(MODEL),
        "nobody_ready": await client.is_model_ready("nobody"),
        "typed": all(np.array_equal(raw.as_numpy(), other.as_numpy()) for raw, other in pairs),
        "id": routed.id,
    }
    print(json.dumps(said | {output.name: output.as_numpy().tolist() for output in answer.outputs}))
    await client.close()


asyncio.run(main(sys.argv[1]))
