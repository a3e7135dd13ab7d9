"""How many replicas of what, and grouped or separate: from measured costs and a target."""
