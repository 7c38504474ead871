"""Samples of regression: studies with a number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cinema_lightning.data import DATA
from cinema_lightning.data.labelled import LabelledData, numbers_in, with_studies
from cinema_lightning.data.open import Opened, Spec


@DATA.register
class RegressionData(LabelledData):
    """Studies with a number, such as the ejection fraction: ``label`` is standardised.

    Mean and SD (n - 1) are those of the training studies in use, and are stored with the run; at test they are the
    checkpoint's. Studies without a number are left out with a warning.

    Args:
        root: Folder of the store.
        target: Column that holds the number.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "regression"
    per_study = True

    def __init__(self, root: str, target: str = "lv_ef", **options: Any) -> None:
        super().__init__(root, **options)
        self.target = target

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        values, known, notes = numbers_in(opened, self.target)
        opened = with_studies(opened, known, notes)
        seen = values[opened.rows["train"]]
        mean = float(seen.mean()) if len(seen) else None
        std = float(seen.std(ddof=1)) if len(seen) > 1 else None
        if spec is not None:
            mean, std = float(spec["mean"]), float(spec["std"])
        opened = replace(opened, facts={"target": self.target, "mean": mean, "std": std})
        if mean is not None and std:
            return replace(opened, targets={"label": ((values - mean) / std).astype(np.float32)})
        source = opened.cohort.source
        return replace(
            opened,
            untrainable=""
            if mean is None
            else f"{source}: {self.target} is {mean:g} in every training study, so there is nothing to learn; choose "
            "another data.target or train on more subjects.",
            unreadable=f"{source} has no training studies to take the mean and SD of {self.target} from; test with a "
            "checkpoint, which knows them.",
        )
