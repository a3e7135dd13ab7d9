"""Reporters of a rollout: lines, JSON, or a live panel."""
