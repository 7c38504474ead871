"""Lightning modules: one base and one file per task."""

from cinema_lightning.registry import Registry

TASKS: Registry[type] = Registry("task", "cinema_lightning.tasks")
