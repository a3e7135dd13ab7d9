"""A config.pbtxt of the model digits_de, without a fault."""

CONFIG = """\
name: "digits_de"
backend: "onnxruntime"
max_batch_size: 64
input [{ name: "pixels" data_type: TYPE_FP32 dims: [3, 32, 32] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [10] }]
version_policy { all {} }
"""
