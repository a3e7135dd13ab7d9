"""Models in an object store: a folder that is kept in step with it, for the controller and for a Triton."""
