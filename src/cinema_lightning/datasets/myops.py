"""MyoPS 2020: scar and edema from three aligned SAX sequences (Li et al., Medical Image Analysis 2023)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset
from cinema_lightning.datasets.files import find_folder
from cinema_lightning.imaging.alignment import one_series
from cinema_lightning.imaging.geometry import centre_window
from cinema_lightning.imaging.nifti import find_nifti, read_volume
from cinema_lightning.listing import list_paths
from cinema_lightning.views import get_view

SEQUENCES = ("C0", "DE", "T2")
VALIDATION = 5
# Class codes -> islands of fewer pixels are not believed.
SMALLEST = {(5,): 60, (4, 5): 200}


@dataset
class Myops(Dataset):
    """Myocardial Pathology Segmentation: the three sequences stand in the series' time axis as channels."""

    name = "myops"
    display = "MyoPS 2020"
    source = "https://zmiclab.github.io/zxh/0/myops20/ (free on request, for research)"
    looked_for = "train25/myops_training_NNN_C0.nii.gz or test20/myops_test_NNN_C0.nii.gz"
    views = ("sax",)
    labels: ClassVar[dict[int, str]] = {
        0: "background",
        1: "RV blood pool",
        2: "LV blood pool",
        3: "myocardium",
        4: "edema",
        5: "scar",
    }
    label_map: ClassVar[dict[int, int]] = {0: 0, 600: 1, 500: 2, 200: 3, 1220: 4, 2221: 5}
    crop = "centre"
    nifti = True
    spacing: ClassVar[dict[str, tuple[float, float, float] | None]] = {"sax": None}
    columns = ("crop_lower_x", "crop_lower_y", "crop_upper_x", "crop_upper_y")
    splits = "test20 is test (no labels); of train25, five subjects (seed 0) validate"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(
            raw, "*/myops_*_*_C0.nii*", folder="MyoPS2020", display=self.display, looked_for=self.looked_for
        )
        train, test = _names(root / "train25"), _names(root / "test20")
        found = [
            *(_case(root, name, stem, "train") for name, stem in train.items()),
            *(_case(root, name, stem, "test") for name, stem in test.items()),
        ]
        return self.draw_validation(found)

    def draw_validation(self, cases: list[CaseRef]) -> list[CaseRef]:
        """A fifth of the training cases validates."""
        validate = _validation(sorted(case.id for case in cases if case.split == "train"))
        return [replace(case, split="val") if case.split == "train" and case.id in validate else case for case in cases]

    def clean_prediction(self, labels: np.ndarray) -> np.ndarray:
        """Small islands of scar, then of edema and scar together, take the commonest code around them, per slice."""
        out = labels.copy()
        for plane in np.moveaxis(out, 2, 0):
            for codes, smallest in SMALLEST.items():
                _fill_islands(plane, codes, smallest)
        return out

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        volumes = [read_volume(path, dims=3, geometry=case.geometry) for path in case.sources]
        # One type for all three: each channel is scaled by itself afterwards.
        image, labels = one_series(volumes[: len(SEQUENCES)]), dict(enumerate(volumes[len(SEQUENCES) :]))
        shape = image.voxels.shape[:3]
        window = centre_window(shape, get_view("sax").crop)
        fields: dict[str, Any] = {}
        for axis, name in enumerate("xy"):
            fields[f"crop_lower_{name}"] = window.start[axis]
            fields[f"crop_upper_{name}"] = shape[axis] - window.start[axis] - window.size[axis]
        return RawCase({"sax": RawSeries.of(image, labels, {"channels": list(SEQUENCES)})}, fields)


def _fill_islands(plane: np.ndarray, codes: tuple[int, ...], smallest: int) -> None:
    """Gives 8-connected islands of some codes with fewer pixels than that the commonest code around them, in place."""
    from scipy import ndimage

    whole = np.ones((3, 3), bool)
    islands, count = ndimage.label(np.isin(plane, codes), structure=whole)
    for number in range(1, count + 1):
        island = islands == number
        around = plane[ndimage.binary_dilation(island, structure=whole) & ~island]
        if island.sum() < smallest and around.size:
            plane[island] = np.bincount(around).argmax()


def _names(folder: Path) -> dict[str, str]:
    """Number of each subject -> the start of its files' names; some copies call the test files training, too."""
    pattern = re.compile(r"(myops_(?:training|test)_(\w+))_(?:C0|DE|T2)\.nii(?:\.gz)?")
    found = (pattern.fullmatch(path.name) for path in list_paths(folder, "*.nii*"))
    return {match[2]: match[1] for match in found if match}


def _case(root: Path, name: str, stem: str, split: str) -> CaseRef:
    folder = root / ("test20" if split == "test" else "train25")
    sources = [find_nifti(folder / f"{stem}_{sequence}.nii.gz") for sequence in SEQUENCES]
    if split != "test":
        sources.append(find_nifti(root / "train25_myops_gd" / f"{stem}_gd.nii.gz"))
    return CaseRef(name, name, split, tuple(sources))


def _validation(train: list[str]) -> set[str]:
    """The published five of 25: ``sample(n=5, random_state=0)`` on sorted ids; of fewer, a fifth."""
    import pandas as pd

    count = min(VALIDATION, len(train) // 5)
    return set(pd.Series(train, dtype=object).sample(n=count, random_state=0)) if count else set()
