"""Reads NIfTI volumes for jobs and batches."""
