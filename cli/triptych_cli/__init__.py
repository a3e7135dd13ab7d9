"""The command `triptych`: tools for models, rollouts and a running controller."""
