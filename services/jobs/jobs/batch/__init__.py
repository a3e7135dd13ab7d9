"""Batches: a document that names a dataset, a model and an output, and the run that answers every row once."""
