"""Programs of third parties that tests and benchmarks call: built or downloaded once, into the cache."""
