"""What test and predict write: rows, cases, label maps in the geometry of the scan, overlays."""
