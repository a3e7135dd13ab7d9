"""Programs for Triton's Python backend: the network alone, and all three steps in one process."""
