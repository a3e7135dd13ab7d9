"""Benchmarks: measurements of the chain against alternatives, each reproducible by one command."""
