"""What runs in Triton's Python backend: the network alone, and all three steps in one process."""
