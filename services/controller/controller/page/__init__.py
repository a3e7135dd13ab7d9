"""A page for people: models, traffic and predictors, and a form that tries a model. Off unless a port is set."""
