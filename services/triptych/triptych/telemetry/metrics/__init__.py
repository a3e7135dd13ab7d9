"""Metrics: the series of a stage, of a version and of a model, on one page for Prometheus."""
