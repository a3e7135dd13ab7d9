"""What each Triton holds: who is loaded where, who goes, how many copies, on request and unasked."""
