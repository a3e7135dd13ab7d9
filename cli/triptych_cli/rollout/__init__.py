"""`triptych rollout`: gives a version its share step by step, and takes it back when it is worse."""
