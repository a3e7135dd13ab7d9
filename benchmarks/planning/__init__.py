"""Replica counts for a target rate and latency, grouped and separate, from measured costs."""
