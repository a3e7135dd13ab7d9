"""Checks of a model version before it serves: contract, config.pbtxt, files, and a trial on made-up rows."""
