"""The validator of models before they are served, for `triptych verify` and for the controller."""
