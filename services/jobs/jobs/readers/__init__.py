"""Readers: from files of many formats to parts, and from a part to record batches of bounded bytes."""
