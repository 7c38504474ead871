"""New scans in, features, pictures and measurements out."""
