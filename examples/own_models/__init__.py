"""The models of docs/guides/own-models.md: from a library's model to an ONNX file, and the library's own answers."""
