"""The contract as checked types: declarations, examples, observation, and the data flow between steps."""
