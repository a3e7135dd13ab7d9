"""Predictors: what each Triton holds, the calls to it, and the fleet of all of them."""
