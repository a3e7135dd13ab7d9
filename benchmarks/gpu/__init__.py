"""Benchmark of separate stages against one process on a GPU: pictures/s, utilisation and memory of the GPU."""
