"""Whole studies as DICOM: files of three vendors' habits, a folder a study, as ``cinema analyse`` takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.making import subject_id
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record
from cinema_lightning.phantom.raw.dicom import frame_bytes, geometry, patient, uid
from cinema_lightning.phantom.raw.files import put
from cinema_lightning.phantom.raw.scan import truth_row
from cinema_lightning.phantom.raw.studies import FRAMES, PhantomStudy, Scan, make
from cinema_lightning.phantom.truth import LV


class StudiesLayout(RawLayout):
    """Examinations of the very hearts of a store with the same seed, exported by scanners of three vendors in turn."""

    name = "dicom"
    display = "DICOM studies"
    frames: ClassVar[dict[str, int]] = FRAMES
    owned = ("phantom_[0-9]*",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        study = make(settings.seed, index, frames=settings.frames, size=settings.size)
        files, _ = files_of(study, index, settings.seed)
        for number, data in enumerate(files, start=1):
            put(root / subject_id(index) / f"IM{number:05d}", data)
        volumes = (study.sax.labels == LV).sum(axis=(1, 2, 3))
        ed, subject = int(volumes.argmax()), study.heart.subject
        more = {"vendor": study.habit, "pathology": subject.pathology, "split": subject.split}
        return Record([truth_row(subject_id(index), study.heart, study.sax, ed, int(volumes.argmin()), **more)])


def files_of(
    study: PhantomStudy, index: int, seed: int = 0, *, shuffle: bool = True
) -> tuple[list[bytes], dict[int, str]]:
    """Writes a study.

    Args:
        study: The study.
        index: Number of the subject.
        seed: Tells the numbers of cohorts apart.
        shuffle: Series come in any order.

    Returns:
        Its files in any order, and the view of each series by its running number.
    """
    root = uid(seed, "analyse", index)
    subject = study.heart.subject
    common = patient(subject, f"P{index}", root, {"GE": "GE MEDICAL SYSTEMS"}.get(study.habit, study.habit.upper()))
    common |= {"FrameOfReferenceUID": f"{root}.9", "MagneticFieldStrength": 1.5}
    parts = [part for scan in study.scans for part in (_slices(scan) if study.habit == "Siemens" else [scan])]
    order = generator(0, "analyse", "order", index).permutation(len(parts)) if shuffle else range(len(parts))
    files, truth, beat = [], {}, float(generator(0, "analyse", "beat", index).integers(650, 1150))
    for number, place in enumerate(order, start=1):
        part = parts[place]
        tags = {**common, "SeriesNumber": number, "SeriesInstanceUID": f"{root}.{number}"}
        tags |= {"SeriesDescription": part.words, **part.tags}
        truth[number] = part.view
        enhanced = study.habit == "Philips" and not part.coloured
        files += [_enhanced(part, tags, beat)] if enhanced else list(_classic(study.habit, part, tags, beat))
    rng = generator(0, "analyse", "files", index)
    return [files[k] for k in rng.permutation(len(files))], truth


def _slices(scan: Scan) -> Iterator[Scan]:
    """One series a slice."""
    for z, place in scan.slices:
        yield replace(scan, images=scan.images[:, :, :, z : z + 1], places=(place,))


def _classic(habit: str, scan: Scan, tags: dict[str, Any], rr: float) -> Iterator[bytes]:
    """A file a frame; GE says how far slices are apart, and starts late and at other rates in each slice."""
    count, number = scan.images.shape[0], 0
    apart = round(float(np.linalg.norm(scan.affine[:3, 2])), 3) if habit == "GE" and len(scan.slices) > 1 else None
    for z, place in scan.slices:
        beat, start = (rr * (1 + 0.03 * (z * 7 % 3 - 1)), 10.0 + z % 5) if habit == "GE" else (rr, 0.0)
        for frame in range(count):
            number += 1
            own = {"InstanceNumber": number, "SOPInstanceUID": f"{tags['SeriesInstanceUID']}.{number}"}
            own |= {"SpacingBetweenSlices": apart, **geometry(scan.affine, place)}
            if count > 1:
                own |= {"TriggerTime": round(start + scan.share * beat * frame / count, 2)}
                own |= {"CardiacNumberOfImages": count, "NominalInterval": round(beat) if scan.says_beat else None}
            yield frame_bytes(scan.images[frame, :, :, z], own | tags)


def _enhanced(scan: Scan, tags: dict[str, Any], rr: float) -> bytes:
    """One file for all frames, with what differs between them in functional groups."""
    import pydicom
    from pydicom.uid import EnhancedMRImageStorage

    lone = {"SOPInstanceUID": f"{tags['SeriesInstanceUID']}.1", "InstanceNumber": 1}
    shared = {name: tags[name] for name in ("SliceThickness", "SpacingBetweenSlices") if name in tags}
    top = {name: value for name, value in tags.items() if name not in shared}
    file = pydicom.dcmread(BytesIO(frame_bytes(scan.images[0, :, :, 0], top | lone)))
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = EnhancedMRImageStorage
    groups, planes, count = [], [], scan.images.shape[0]
    for z, place in scan.slices:
        where = geometry(scan.affine, place)
        for frame in range(count):
            group = _item(
                PlanePositionSequence=[_item(ImagePositionPatient=where["ImagePositionPatient"])],
                PlaneOrientationSequence=[_item(ImageOrientationPatient=where["ImageOrientationPatient"])],
                PixelMeasuresSequence=[_item(PixelSpacing=where["PixelSpacing"], **shared)],
                FrameContentSequence=[
                    _item(StackID="1", InStackPositionNumber=place + 1, TemporalPositionIndex=frame + 1)
                ],
            )
            if count > 1:
                delay = {"NominalCardiacTriggerDelayTime": scan.share * rr * frame / count}
                beat = {"RRIntervalTimeNominal": rr} if scan.says_beat else {}
                group.CardiacSynchronizationSequence = [_item(**delay, **beat)]
            groups.append(group)
            planes.append(scan.images[frame, :, :, z].T)
    file.PerFrameFunctionalGroupsSequence, file.NumberOfFrames = groups, len(groups)
    file.PixelData = np.stack(planes).tobytes()
    buffer = BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _item(**values: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
