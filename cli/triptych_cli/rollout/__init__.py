"""`triptych rollout`: raise the share of a version step by step, and roll back if it is worse."""
