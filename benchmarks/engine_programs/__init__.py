"""Programs that a team would write by hand for an engine, each run in its environment."""
