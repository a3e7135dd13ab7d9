"""Measurement of one system: right answers, load, latency and CPU."""
