"""`triptych mirror`: keeps a folder in step with an object store."""
