"""The end of the chain: a model's raw outputs to an answer in the domain's words."""
