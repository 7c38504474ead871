"""Regression: one number for each study."""

from cinema_lightning.tasks.regression.task import Regression

__all__ = ["Regression"]
