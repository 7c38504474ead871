"""Lightning modules: one base and one file per task."""

from cinema_lightning.registry import TASKS

__all__ = ["TASKS"]
