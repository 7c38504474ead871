"""The datasets: one file each, its facts and a reader of the layout that its provider ships.

A tenth dataset is one more file here (or a plug-in, see ``cinema_lightning.registry``): a subclass of
:class:`~cinema_lightning.datasets.base.Dataset`, registered with ``@dataset("name")``. Resampling, cropping, grey
levels, writing and the table are shared (``cinema_lightning.prepare``).
"""
