"""A backend as teams have one: it knows its callers and its features, and asks the chain for predictions."""
