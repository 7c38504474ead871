"""EMIDEC: late gadolinium SAX stacks with infarct and no-reflow (Lalande et al., Data 2020)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset
from cinema_lightning.datasets.files import find_folder, number, sex, shuffled_split, tidy
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.listing import list_paths

# Key in the text file (without the dagger that some carry) -> column of the table.
NUMBERS = {"Troponin": "troponin", "Killip Max": "killip_max", "FEVG": "lv_ef", "NTProBNP": "ntprobnp", "Age": "age"}
YES_NO = {
    "Overweight": "overweight",
    "Arterial hypertension": "arterial_hypertension",
    "Diabetes": "diabetes",
    "Familial history of coronary artery disease": "family_history",
    "ECG (ST +)": "ecg",
}
SMOKING = {"1": "Y", "2": "N", "3": "Former"}


@dataset
class Emidec(Dataset):
    """Automatic Evaluation of Myocardial Infarction from Delayed-Enhancement Cardiac MRI."""

    name = "emidec"
    display = "EMIDEC"
    source = "https://emidec.com/ (free, for research, CC BY-NC-SA 4.0)"
    looked_for = "emidec-dataset-1.0.1/Case NNNN.txt and emidec-dataset-1.0.1/Case_NNNN/Images/Case_NNNN.nii.gz"
    views = ("sax",)
    labels: ClassVar[dict[int, str]] = {0: "background", 1: "cavity", 2: "myocardium", 3: "infarct", 4: "no-reflow"}
    label_map: ClassVar[dict[int, int]] = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    crop_label = 2  # as published, though the cavity was meant
    spacing: ClassVar[dict[str, tuple[float, float, float] | None]] = {"sax": (1.458, 1.458, 10.0)}
    classes: ClassVar[dict[str, tuple[str, ...]]] = {"pathology": ("N", "P")}
    columns = ("tobacco", "troponin", "killip_max", "ntprobnp", *YES_NO.values())
    measures = "proportions"
    nifti = True
    splits = "60/20/20 within normal (N) and within pathological (P) cases, seed 0"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(
            raw, "Case *.txt", folder="emidec-dataset-1.0.1", display=self.display, looked_for=self.looked_for
        )
        tables = sorted(list_paths(root, "Case *.txt"), key=lambda path: natural_key(path.stem[6:]))
        return self.draw_validation([_case(path) for path in tables])

    def draw_validation(self, cases: list[CaseRef]) -> list[CaseRef]:
        """All three splits are drawn, within N and within P."""
        splits: dict[str, str] = {}
        for group in ("N", "P"):
            splits |= shuffled_split(case.id for case in cases if case.id[:1] == group)
        return [replace(case, split=splits.get(case.id, "")) for case in cases]

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        folder = case.sources[0]
        image, label = (
            read_volume(folder / part / f"{folder.name}.nii.gz", dims=3, geometry=case.geometry)
            for part in ("Images", "Contours")
        )
        return RawCase({"sax": RawSeries.of(image, {0: label})})


def _case(path: Path) -> CaseRef:
    name = path.stem.removeprefix("Case ").strip()
    folder = path.parent / f"Case_{name}"
    try:
        info = read_info(path)
        numbers = {column: tidy(number(info.get(key), f"{key} in {path}")) for key, column in NUMBERS.items()}
    except CinemaError as error:
        return CaseRef(name, name, "", (folder,), problem=str(error))
    fields: dict[str, Any] = {
        "pathology": name[:1],
        "sex": sex(info.get("Sex")),
        "tobacco": SMOKING.get(info["Tobacco"]),
    }
    fields |= numbers
    fields |= {column: info.get(key, "")[:1].upper() or None for key, column in YES_NO.items()}
    return CaseRef(name, name, "", (folder,), fields)


def read_info(path: Path) -> dict[str, str]:
    """Reads the ``Key : value`` lines of one case's text file.

    Some keys carry a dagger, which is byte 0xA0 in Mac Roman and three bytes in UTF-8. All that is not ASCII is
    dropped, so that the encoding does not matter.

    Args:
        path: The file.

    Returns:
        Key -> value, blanks stripped.

    Raises:
        CinemaError: If the file cannot be read or lacks a key that every case has.
    """
    try:
        lines = path.read_bytes().decode("ascii", errors="ignore").splitlines()
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    missing = [key for key in ("Sex", "Tobacco", *NUMBERS, *YES_NO) if key not in info]
    if missing:
        raise CinemaError(f"{path} lacks the line '{missing[0]} : ...'.")
    return info
