"""Landmarks: points, as heatmaps or coordinates."""
