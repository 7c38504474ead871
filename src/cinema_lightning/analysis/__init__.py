"""One person's study in, checked results out."""
