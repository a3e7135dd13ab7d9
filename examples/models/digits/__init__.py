"""Digits: handwriting drawn in the styles of countries, and the networks that read it."""
