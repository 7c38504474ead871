"""Segmentation: a class for each voxel."""

from cinema_lightning.registry import lazy

__getattr__ = lazy(f"{__name__}.task", "Segmentation")
