"""The control plane: which models there are, who gets which version, and what Triton holds."""
