"""From the store (or a folder of NIfTI files) to batches on the device.

``DATA`` holds the data modules by class name. Nothing heavy is imported here.
"""

from typing import Any

from cinema_lightning.registry import DATA

__all__ = ["DATA", "formerly"]


def formerly(module: str, name: str) -> Any:
    """A data module by its class name, for the modules that held it in earlier versions; else AttributeError."""
    if name.startswith("_") or name not in DATA:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    return DATA[name]
