"""Where a model is asked: `remote`, the service preprocess, or `local`, a model folder in this process."""
