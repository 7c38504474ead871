"""Networks in Python: loaded by name, called on scans."""
