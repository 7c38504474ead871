"""From the store (or a folder of NIfTI files) to batches on the device.

``DATA`` holds the data modules by class name. Nothing heavy is imported here.
"""

from __future__ import annotations

from typing import Any

from cinema_lightning.registry import Registry

DATA: Registry[Any] = Registry("data module", "cinema_lightning.data")

__all__ = ["DATA"]
