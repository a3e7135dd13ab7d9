"""Triton for one machine: the server from the `nvidia-pytriton` wheel, made ready and started."""
