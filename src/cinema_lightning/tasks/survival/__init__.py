"""Survival: the risk of an event."""

from cinema_lightning.tasks.survival.task import Survival

__all__ = ["Survival"]
