"""Training of the example models, and measurement of their accuracy through the running stack.

`python -m examples.models build` needs requirements.txt. `python -m examples.models evaluate`, and the modules that it
uses (labels, handwriting, render, pictures), need only the environment of the services.
"""
