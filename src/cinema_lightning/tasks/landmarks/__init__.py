"""Landmarks: points, as heatmaps or coordinates."""

from cinema_lightning.registry import lazy

__getattr__ = lazy(f"{__name__}.task", "LandmarkCoordinate", "LandmarkHeatmap")
