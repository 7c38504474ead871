"""Losses that torch and monai lack. Classification takes torch's cross-entropy, regression torch's squared error."""
