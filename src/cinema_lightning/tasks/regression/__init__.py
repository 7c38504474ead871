"""Regression: one number for each study."""
