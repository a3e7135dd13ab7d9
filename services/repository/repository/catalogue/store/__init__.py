"""Models in an object store: a folder that is kept in step with it, for the repository and for a Triton."""
