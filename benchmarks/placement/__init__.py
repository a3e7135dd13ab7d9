"""Benchmarks of placement: policies and the control plane, simulated and with a real Triton."""
