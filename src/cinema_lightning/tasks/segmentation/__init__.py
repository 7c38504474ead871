"""Segmentation: a class for each voxel."""

from cinema_lightning.tasks.segmentation.task import Segmentation

__all__ = ["Segmentation"]
