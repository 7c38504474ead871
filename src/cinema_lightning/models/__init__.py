"""Networks: the multi-view masked autoencoder, what is fine-tuned from it, and CNN baselines of the same interface.

``BACKBONES`` holds what downstream tasks can be built on: dense ones (a value per voxel and class) and pooled ones (a
row of outputs per sample), see :mod:`cinema_lightning.models.backbone`.
"""

from cinema_lightning.registry import BACKBONES

__all__ = ["BACKBONES"]
