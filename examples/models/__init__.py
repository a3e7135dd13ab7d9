"""How the example models are made, and how their accuracy through the chain is measured.

`python -m examples.models build` needs requirements.txt; `python -m examples.models evaluate` and the modules
that it uses (labels, heldout, render, pictures) need only what the services have.
"""
