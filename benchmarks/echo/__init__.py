"""A stage that answers a request with its own tensor, for what a gRPC server itself costs."""
