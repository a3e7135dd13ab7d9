"""Benchmarks of the stages' own code, without sockets."""
