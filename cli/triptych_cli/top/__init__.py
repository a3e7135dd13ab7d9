"""`triptych top`: what each Triton holds, and what was decided lately, in a terminal."""
