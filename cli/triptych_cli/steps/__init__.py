"""`triptych steps`: the list of steps, and a package for a step of one's own."""
