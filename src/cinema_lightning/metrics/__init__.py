"""Metrics of cine cardiac MRI: what torchmetrics, monai and lifelines lack, and everything needed per case.

Statistics over cases take ``weights``: a case's number of copies, or one row of such numbers per bootstrap draw. So
that every interval is one matrix product, see :mod:`cinema_lightning.metrics.weighted`.
"""
