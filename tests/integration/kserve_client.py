"""One call with KServe's own client, in a process of its own: it and `tritonclient` register one protobuf package."""

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


async def main(address: str) -> None:
    inputs = []
    for name, (datatype, array) in TENSORS.items():
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=True)
        inputs.append(tensor)
    client = InferenceGRPCClient(address)
    if not await client.is_server_ready():
        raise SystemExit("not ready")
    answer = await client.infer(InferRequest("sales_forecast_de", inputs))
    print(json.dumps({output.name: output.as_numpy().tolist() for output in answer.outputs}))
    await client.close()


asyncio.run(main(sys.argv[1]))
