"""Phantom studies as DICOM in memory, and their truth, for `analyse.py`; measures nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import IO, Any

import numpy as np

from cinema_lightning.analysis.sources import Source
from cinema_lightning.phantom.raw.studies import LEVEL, PhantomStudy, levels, make
from cinema_lightning.phantom.raw.study_files import files_of

__all__ = ["LEVEL", "PhantomStudy", "Truth", "levels", "make", "sources"]


class Truth:
    """In the place of a network: the labels that belong to a slice's pixels, wherever the slice was put."""

    def __init__(self, study: PhantomStudy) -> None:
        images, labels = study.scans[0].images, study.sax.labels
        slices = [(t, z) for t in range(images.shape[0]) for z in range(images.shape[3])]
        self.labels = {images[t, :, :, z].tobytes(): labels[t, :, :, z] for t, z in slices}

    def __call__(self, scan: Any, **_: Any) -> Any:
        """The labels of one view's frames; of what was filled there are none."""
        ((view, images),) = scan.items()
        nothing = np.zeros(images.shape[:2], np.uint8)
        labels = np.zeros(images.shape, np.uint8)
        for z, t in np.ndindex(images.shape[2:]):
            labels[:, :, z, t] = self.labels.get(np.ascontiguousarray(images[:, :, z, t]).tobytes(), nothing)
        classes = {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
        return SimpleNamespace(views={view: SimpleNamespace(labels=labels, classes=classes)}, rows=())


def sources(study: PhantomStudy, index: int, *, shuffle: bool = True) -> tuple[list[Source], dict[int, str]]:
    """Writes a study; its files as `cinema analyse` lists them, and the view of each series by its running number."""
    files, truth = files_of(study, index, shuffle=shuffle)
    return [Source(number, "", partial(_opened, data)) for number, data in enumerate(files, start=1)], truth


@contextmanager
def _opened(data: bytes) -> Iterator[IO[bytes]]:
    yield BytesIO(data)
