"""Encoded image files: their formats, headers, orientation, and the decoder."""
