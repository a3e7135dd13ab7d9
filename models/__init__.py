"""How the example models are made, and how their accuracy through the chain is measured.

`python -m models build` needs models/requirements.txt; `python -m models evaluate` and the modules
that it uses (labels, heldout, render, pictures) need only what the services have.
"""
