"""Decisions of placement as pure functions and values: eviction, headroom, popularity, replica count, memory."""
