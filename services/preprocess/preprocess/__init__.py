"""The first stage: checks a request, prepares its tensors, and calls Triton and postprocess for the answer."""
