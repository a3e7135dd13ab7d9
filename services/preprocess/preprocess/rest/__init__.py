"""The HTTP form of the Open Inference Protocol, beside gRPC and over the same servicer."""
