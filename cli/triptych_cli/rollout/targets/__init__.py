"""Targets of a rollout: the documents and objects whose traffic it writes."""
