"""Classification: one class for each study."""
