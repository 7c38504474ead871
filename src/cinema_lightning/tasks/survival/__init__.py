"""Survival: the risk of an event."""
