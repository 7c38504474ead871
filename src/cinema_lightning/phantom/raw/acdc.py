"""ACDC as shipped: ``database/{training,testing}/patientNNN`` with Info.cfg, the 4D image, ED and ES with labels."""

from __future__ import annotations

from pathlib import Path

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.files import plain_affine, put, put_nifti
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, grey_scale, images_of, late_start, truth_row
from cinema_lightning.phantom.truth import es_frame

GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
# Blocks of all five groups; two of three are for training, so that a few dozen leave some beside the validation set.
PARTS = "TTTTTEEEEE" + "TTTTTTTTTTTTTTT" + "EEEEE"
TRAINING = 100
# Pixels, pixel size and slice distance that occur.
GRIDS = (
    ((216, 256), (1.5625, 1.5625), 10.0),
    ((256, 216), (1.36719, 1.36719), 10.0),
    ((232, 256), (1.68269, 1.68269), 10.0),
    ((216, 256), (1.40625, 1.40625), 5.0),
)


@layout
class AcdcLayout(RawLayout):
    """Automated Cardiac Diagnosis Challenge."""

    name = "acdc"
    display = "ACDC"
    most = 150
    owned = ("database",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        group = GROUPS[rank % len(GROUPS)]
        name = f"patient{(1 if part == 'T' else TRAINING + 1) + rank:03d}"
        folder = root / "database" / ("training" if part == "T" else "testing") / name
        heart = Heart(person(settings.seed, index, group))
        subject = heart.subject
        # A choice of its own per subject: the grid must not tell the group.
        choice = int(generator(settings.seed, "phantom", "acdc grid", index).integers(len(GRIDS)))
        size, spacing, distance = GRIDS[choice]
        scan = examination(settings, subject, "Siemens", sax=(size, spacing), slices=(distance, min(distance, 8.0)))
        ed = late_start(settings, index % 7 == 3)
        sax = images_of(heart, scan, ("sax",), ed)["sax"]
        es = es_frame(sax.phases)
        images = grey(sax.images, grey_scale(settings, subject))
        # The files say nothing of the orientation in the scanner.
        affine = plain_affine(sax.spacing)
        put_nifti(folder / f"{name}_4d.nii.gz", images, affine, 0.96 / settings.frames)
        for frame in sorted({ed, es}):
            put_nifti(folder / f"{name}_frame{frame + 1:02d}.nii.gz", images[frame], affine)
            put_nifti(folder / f"{name}_frame{frame + 1:02d}_gt.nii.gz", sax.labels[frame], affine)
        info = {
            "ED": ed + 1,
            "ES": es + 1,
            "Group": group,
            "Height": f"{100 * subject.height:.1f}",
            "NbFrame": settings.frames,
            "Weight": f"{subject.weight:.1f}",
        }
        put(folder / "Info.cfg", "\n".join(f"{key}: {value}" for key, value in info.items()).encode())
        return Record([truth_row(name, heart, sax, ed, es, pathology=group)])
