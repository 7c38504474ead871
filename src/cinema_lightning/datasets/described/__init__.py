"""Own data by a description in YAML: the facts of a dataset, where its files are, and a reader written once for all."""
