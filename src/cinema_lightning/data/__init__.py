"""From the store (or a folder of NIfTI files) to batches on the device.

``DATA`` holds the data modules by class name. Nothing heavy is imported here.
"""

from cinema_lightning.registry import DATA

__all__ = ["DATA"]
