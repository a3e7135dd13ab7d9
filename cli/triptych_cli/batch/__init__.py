"""`triptych batch`: answer every row of a dataset on this machine, and look at the answers."""
