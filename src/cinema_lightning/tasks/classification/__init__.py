"""Classification: one class for each study."""

from cinema_lightning.tasks.classification.task import Classification

__all__ = ["Classification"]
