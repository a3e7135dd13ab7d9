"""The entry of the chain: checks a request, prepares its tensors, and fetches the answer from the other stages."""
