"""A plug-in with a kind of task of its own: how thick the wall of the left ventricle is."""
