"""Placement: the versions that each predictor holds, loaded on request or by the reconcile loop."""
