"""`triptych plan`: replicas for a load, and whether to group the stages, from measured costs."""
