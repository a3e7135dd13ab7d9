"""Columns of Arrow as tensors of a model, and back: one column a tensor, one row an element of its first dimension.

`types` compares schemas, `reading` makes tensors of columns, `writing` makes columns of tensors.
"""
