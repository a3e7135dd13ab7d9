"""`triptych init`: a model folder for an ONNX file, with config.pbtxt and a contract."""
