"""The Open Inference Protocol over gRPC: messages and arrays, errors and status, methods and calls."""
