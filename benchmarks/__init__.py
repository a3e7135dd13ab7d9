"""Benchmarks: measurements of Triptych against alternatives, each reproducible by one command."""
