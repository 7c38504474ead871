"""EMIDEC as shipped: a text file per case with daggers in Mac Roman, late gadolinium stacks with labels 0 to 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.files import plain_affine, put, put_nifti
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, grey_scale, relabel
from cinema_lightning.phantom.subject import Subject

PARTS = "PPN"
DIASTASIS = 0.75  # fraction of the cycle: late gadolinium is imaged when the heart rests
# Cavity, myocardium (edema is not told apart), infarct and no-reflow from the phantom's codes.
CODES = {3: 1, 2: 2, 4: 2, 5: 3, 6: 4}
GRIDS = (
    ((256, 216), (1.45833, 1.45833)),
    ((256, 208), (1.36719, 1.36719)),
    ((224, 192), (1.67, 1.67)),
)
# The dagger refers to a footnote of the provider's description; in Mac Roman it is the byte 0xA0.
DAGGER = "\u2020"


@layout
class EmidecLayout(RawLayout):
    """Automatic Evaluation of Myocardial Infarction from Delayed-Enhancement Cardiac MRI."""

    name = "emidec"
    display = "EMIDEC"
    single_frame = True
    owned = ("emidec-dataset-1.0.1",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        kind, _ = place(PARTS, index)
        name = f"{kind}{index + 1:03d}"
        heart = Heart(person(settings.seed, index, "acute infarct" if kind == "P" else "NOR"))
        subject = heart.subject
        grid = GRIDS[int(generator(settings.seed, "phantom", "emidec grid", index).integers(len(GRIDS)))]
        scan = examination(settings, subject, "Siemens", sax=grid, sequence="lge", scar_labels=True)
        sax = Imager(heart, scan, [DIASTASIS]).image("sax")
        labels = relabel(sax.labels[0], CODES)
        affine = plain_affine(sax.spacing)
        top = root / "emidec-dataset-1.0.1"
        images = grey(sax.images[0], grey_scale(settings, subject)).astype(np.float64)
        put_nifti(top / f"Case_{name}" / "Images" / f"Case_{name}.nii.gz", images, affine)
        put_nifti(top / f"Case_{name}" / "Contours" / f"Case_{name}.nii.gz", labels, affine)
        put(top / f"Case {name}.txt", info_bytes(subject, settings.seed))
        return Record([_truth(name, subject, labels, sax.spacing)])


def info_bytes(subject: Subject, seed: int) -> bytes:
    """The case's text file, in Mac Roman."""
    ill = subject.scar is not None
    rng = generator(seed, "phantom", "emidec", subject.index)

    def yes(chance: float) -> str:
        return "Y" if rng.random() < chance else "N"

    lines = {
        "Sex": f" {subject.sex}",
        "Age": int(subject.age),
        "Tobacco": int(rng.integers(1, 4)),
        "Overweight": "Y" if subject.bmi >= 25 else "N",
        "Arterial hypertension": yes(0.45),
        "Diabetes": yes(0.2),
        "Familial history of coronary artery disease": yes(0.25),
        "ECG (ST +)": yes(0.75 if ill else 0.1),
        f"Troponin{DAGGER}": round(float(rng.lognormal(4.0 if ill else -2.0, 0.8)), 2),
        "Killip Max": int(rng.integers(1, 4)) if ill else 1,
        f"FEVG{DAGGER} ": round(100 * subject.lv_ef),
        f"NTProBNP{DAGGER}": round(float(rng.lognormal(6.5 if ill else 4.5, 0.7))),
    }
    return "".join(f"{key} : {value}\n" for key, value in lines.items()).encode("mac_roman")


def _truth(name: str, subject: Subject, labels: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, object]:
    counts = np.bincount(labels.ravel(), minlength=5) * float(np.prod(spacing)) / 1000
    volumes = dict(zip(("cavity", "myocardium", "infarct", "no_reflow"), counts[1:].tolist(), strict=True))
    row: dict[str, object] = {"id": name, "phantom": subject.index, "pathology": name[:1]}
    row |= {"sex": subject.sex, "age": subject.age, "lv_ef_true": round(100 * subject.lv_ef, 2)}
    return row | {f"{key}_ml": round(value, 3) for key, value in volumes.items()}
