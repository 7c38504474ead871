"""Metrics of cine cardiac MRI: what torchmetrics, monai and lifelines lack, and everything needed per case.

Statistics over cases take ``weights``, how often a case counts (:mod:`cinema_lightning.metrics.weighted`). What
subjects contribute to them follows from that (:mod:`.influence`), and intervals and tests from the contributions
(:mod:`.inference`, :mod:`.estimates`).
"""
