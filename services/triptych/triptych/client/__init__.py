"""Outbound calls: upstreams, transports, cached contracts, and the meaning of Triton's errors."""
