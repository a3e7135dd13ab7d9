"""`triptych wait`: until the pods of Deployments and InferenceServices are those of their specs, and ready."""
