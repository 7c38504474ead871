"""Augmentation: a list of effects that YAML names, one a file; ``AUGMENTATIONS`` holds them by class name.

What is drawn is drawn on the host, and keyed; what is computed is computed on the device
(:class:`cinema_lightning.data.transforms.Fit`).
"""

from cinema_lightning.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS"]
