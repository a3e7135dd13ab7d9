"""`triptych try`: one request through the steps of a contract and the model, without any server."""
