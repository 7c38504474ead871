"""Foundation models for cine cardiac MRI on PyTorch Lightning."""

__version__ = "0.1.0"
