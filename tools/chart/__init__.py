"""Programs around the Helm chart: documentation, renders, schemas."""
