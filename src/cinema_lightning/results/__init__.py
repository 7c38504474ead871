"""From the tables of a test to its summary and pictures; tables written by other tools work as well."""
