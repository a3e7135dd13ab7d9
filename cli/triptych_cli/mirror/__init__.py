"""`triptych mirror`: keep a folder in sync with an object store."""
