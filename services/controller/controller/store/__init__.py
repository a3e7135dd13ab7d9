"""Models in an object store: a mirror folder in sync with it, for the controller and for a predictor."""
