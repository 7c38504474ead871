"""Landmarks: points, as heatmaps or coordinates."""

from cinema_lightning.tasks.landmarks.task import LandmarkCoordinate, LandmarkHeatmap

__all__ = ["LandmarkCoordinate", "LandmarkHeatmap"]
