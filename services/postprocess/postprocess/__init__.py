"""The last stage: from a model's raw outputs to labels, boxes and values of the domain."""
