"""Example of a team's own backend: it authenticates its callers, reads features, and asks Triptych for forecasts."""
