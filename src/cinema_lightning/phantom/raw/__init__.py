"""Phantom cohorts in the raw layout of each dataset, quirks included: one writer file per dataset.

A writer is a subclass of :class:`~cinema_lightning.phantom.raw.base.RawLayout`, registered with ``@layout``. Everything
that is not the provider's layout (who is imaged, how, files, the runner) is shared.
"""
