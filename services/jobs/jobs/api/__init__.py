"""The API of jobs over gRPC: triptych.v1.Jobs, and google.longrunning.Operations."""
