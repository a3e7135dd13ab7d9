"""Figures with the command that makes them: what is promised, measured against the alternatives."""
