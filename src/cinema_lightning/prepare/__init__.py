"""From what a provider ships to the store and its table: one runner for all datasets."""
