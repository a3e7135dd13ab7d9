"""Outbound calls to other parts."""
