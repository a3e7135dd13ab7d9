"""The stack on one machine: its environments, its processes, and example requests."""
