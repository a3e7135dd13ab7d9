"""Counters of a rollout: their sources, the parser of a metrics page, and counts within a window."""
