"""The control plane: catalog, traffic and placement of all models."""
