"""Separate stages or one process, on a real GPU: pictures/s, the GPU's share of busy time, and its memory."""
