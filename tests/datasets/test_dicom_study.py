"""Studies in other folders and series than the provider's: the same phantom, rearranged, gives the same store."""

import csv
import hashlib
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import BasicTextSRStorage, EnhancedMRImageStorage, JPEGLosslessSV1

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.command import phantom
from cinema_lightning.prepare.command import prepare

TOP = "second-annual-data-science-bowl"
LONG = ("lax_2c", "lax_3c", "lax_4c")


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _reasons(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _prepared(name: str, raw: Path, out: Path) -> dict[str, dict[str, str]]:
    assert prepare(name, raw, out, size="small") == 0, _reasons(out / "failures.csv")
    return _rows(out / "cohort.csv")


def _same(one: Path, other: Path, name: str, views) -> None:
    """Equal voxels in equal places; a stack may run the other way."""
    for view in views:
        first, second = (open_series(series_path(root, name, view)) for root in (one, other))
        voxels, affine = second.read(), np.array(second.info.affine)
        if view == "sax" and first.info.affine[:3, 2] @ affine[:3, 2] < 0:
            voxels = voxels[..., ::-1]
            affine[:3, 3] += affine[:3, 2] * (voxels.shape[-1] - 1)
            affine[:3, 2] *= -1
        np.testing.assert_array_equal(voxels, first.read())
        np.testing.assert_allclose(affine, first.info.affine, atol=1e-4)


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    """Two studies as shipped, in train and test, and what is prepared from them."""
    raw = tmp_path_factory.mktemp("kaggle") / "raw"
    phantom(3, raw, seed=3, size="small", dataset="kaggle", frames=3)
    top = raw / TOP
    shutil.rmtree(top / "validate")
    for second in (top / "train" / "train").glob("[!1]*"):
        shutil.rmtree(second)
    _prepared("kaggle", raw, raw.with_name("store"))
    return top, raw.with_name("store")


@pytest.fixture
def study(kaggle, tmp_path):
    """A copy of the first study."""
    shutil.copytree(kaggle[0] / "train" / "train" / "1", tmp_path / "raw" / "train" / "1")
    shutil.copy(kaggle[0] / "train.csv", tmp_path / "raw")
    return tmp_path / "raw" / "train" / "1" / "study"


def test_kaggle_parts_once_or_twice_and_lists_that_are_missing(kaggle, tmp_path):
    raw = tmp_path / "raw"
    for part in ("train", "test"):
        shutil.copytree(kaggle[0] / part / part, raw / part)
    shutil.copy(kaggle[0] / "train.csv", raw)
    rows, shipped = _prepared("kaggle", raw, tmp_path / "store"), _rows(kaggle[1] / "cohort.csv")
    assert rows["1"] == shipped["1"]
    assert float(rows["1"]["lv_edv"]) > 50
    (other,) = rows.keys() - {"1"}
    assert (rows[other]["part"], rows[other]["lv_edv"], rows[other]["lv_ef"]) == ("test", "", "")
    assert f'{other},list,"there is no solution.csv, so no volumes are known"' in _reasons(
        tmp_path / "store" / "warnings.csv"
    )
    # Unpacked once in each way: the study is listed once.
    shutil.copytree(kaggle[0] / "train" / "train", raw / "train" / "train")
    assert list(_prepared("kaggle", raw, tmp_path / "again")) == list(rows)
    # Two studies of one name would overwrite each other.
    shutil.copytree(raw / "train" / "1", raw / "validate" / "1")
    with pytest.raises(CinemaError, match="a study 1 in several of train, validate, test"):
        prepare("kaggle", raw, tmp_path / "twice")


@pytest.mark.parametrize("folder", ["sax_8", "SAX"])
def test_all_slices_in_one_folder(kaggle, study, tmp_path, folder):
    slices = sorted(study.glob("sax_*"))
    for old in slices:
        for path in old.iterdir():
            path.rename(study / f"{old.name}-{path.name}")
        old.rmdir()
    (study / folder).mkdir()
    for path in study.glob("sax_*-*"):
        path.rename(study / folder / path.name)
    rows = _prepared("kaggle", tmp_path / "raw", tmp_path / "store")
    assert int(rows["1"]["n_slices_read"]) == len(slices)
    _same(kaggle[1], tmp_path / "store", "1", ("sax", "lax_2c", "lax_4c"))


@pytest.mark.parametrize("depth", [0, 2])
def test_an_export_without_any_names(kaggle, study, tmp_path, depth):
    """One flat folder, or folders that mean nothing; no suffixes, no descriptions, files that are no images."""
    for path in list(study.rglob("*.dcm")):
        header = pydicom.dcmread(path)
        header.SeriesDescription = ""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        target = study.joinpath(*["ST0"] * depth, f"SE{digest[0]}" if depth else "", digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(target)
        path.unlink()
    for folder in [path for path in study.iterdir() if path.name[1:3] in ("ax", "ch")]:
        folder.rmdir()
    report = pydicom.Dataset()
    report.SOPClassUID = BasicTextSRStorage
    report.SOPInstanceUID = "1.2.3"
    buffer = BytesIO()
    report.save_as(buffer, implicit_vr=False, little_endian=True)
    (study / "report").write_bytes(buffer.getvalue())
    (study / "VERSION").write_text("made by")
    assert _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]["views"] == "sax lax_2c lax_4c"
    _same(kaggle[1], tmp_path / "store", "1", ("sax", "lax_2c", "lax_4c"))
    said = _reasons(tmp_path / "store" / "warnings.csv")
    assert "VERSION" in said
    assert "it is no DICOM file" in said


def _item(**tags) -> pydicom.Dataset:
    out = pydicom.Dataset()
    for name, value in tags.items():
        setattr(out, name, [value] if isinstance(value, pydicom.Dataset) else value)
    return out


def _enhanced(files: list[Path], order: list[int]) -> pydicom.Dataset:
    """One file of many frames from files of one frame each, in the way that newer scanners store."""
    headers = [pydicom.dcmread(files[index]) for index in order]
    out = headers[0]
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID = EnhancedMRImageStorage
    out.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=_item(ImageOrientationPatient=list(out.ImageOrientationPatient)),
            PixelMeasuresSequence=_item(PixelSpacing=list(out.PixelSpacing), SliceThickness=out.SliceThickness),
        )
    ]
    out.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=_item(ImagePositionPatient=list(header.ImagePositionPatient)),
            CardiacSynchronizationSequence=_item(NominalCardiacTriggerDelayTime=float(header.TriggerTime)),
        )
        for header in headers
    ]
    out.NumberOfFrames = len(headers)
    out.PixelData = b"".join(header.PixelData for header in headers)
    tags = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "TriggerTime", "CardiacNumberOfImages")
    for tag in (*tags, "SliceThickness", "SpacingBetweenSlices"):
        if tag in out:
            delattr(out, tag)
    return out


def test_a_stack_in_one_multi_frame_file(kaggle, study, tmp_path):
    files = sorted(path for path in study.glob("sax_*/*.dcm"))
    # Phase by phase, each from the last slice to the first.
    order = sorted(range(len(files)), key=lambda index: (index % 3, -(index // 3)))
    header = _enhanced(files, order)
    for folder in list(study.glob("sax_*")):
        shutil.rmtree(folder)
    (study / "sax").mkdir()
    header.save_as(study / "sax" / "XX_0001")
    row = _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]
    assert int(row["n_slices_read"]) == len(files) // 3
    assert row["n_frames"] == "3"
    _same(kaggle[1], tmp_path / "store", "1", ("sax", "lax_2c", "lax_4c"))


def test_a_compressed_study(kaggle, study, tmp_path):
    for number, path in enumerate(study.rglob("*.dcm")):
        header = pydicom.dcmread(path)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(header.pixel_array[None]), tmp_path / "itk.dcm", True, -1)
        made = pydicom.dcmread(tmp_path / "itk.dcm")
        assert made.file_meta.TransferSyntaxUID.is_compressed
        header.file_meta.TransferSyntaxUID = made.file_meta.TransferSyntaxUID
        header.BitsStored, header.HighBit = made.BitsStored, made.HighBit
        header.PixelData, header["PixelData"].VR = made.PixelData, "OB"
        header["PixelData"].is_undefined_length = True
        header.save_as(path)
        # Some without the preamble that most programs write.
        if number % 5 == 0:
            path.write_bytes(path.read_bytes()[132:])
    assert not _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]["n_slices_filled"].strip("0")
    _same(kaggle[1], tmp_path / "store", "1", ("sax", "lax_2c", "lax_4c"))


@pytest.mark.parametrize("missing", [("4ch",), ("2ch",), ("2ch", "4ch"), ("sax",), ("sax", "4ch")])
def test_views_may_be_missing(study, tmp_path, missing):
    names = {"sax": "sax", "2ch": "lax_2c", "4ch": "lax_4c"}
    for folder in [path for path in study.iterdir() if path.name.split("_")[0] in missing]:
        shutil.rmtree(folder)
    row = _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]
    assert row["views"] == " ".join(view for name, view in names.items() if name not in missing)
    both = not {"2ch", "4ch"} & set(missing)
    assert row["crop_centre"] == ("planes" if both else "image" if "sax" in missing else "motion")
    for view in row["views"].split():
        assert open_series(series_path(tmp_path / "store", "1", view)).read().any()


def _counts(row: dict[str, str]) -> list[str]:
    return [row[f"n_slices_{part}"] for part in ("read", "left_out", "filled")]


@pytest.mark.parametrize("end", ["first", "last"])
def test_slices_in_folders_of_other_names_belong_to_the_stack(kaggle, study, tmp_path, end):
    """Without those at an end, the heart would look smaller than it is, and nothing would be amiss."""
    folders = sorted(study.glob("sax_*"), key=lambda path: int(path.name[4:]))
    for folder in folders[:3] if end == "first" else folders[-3:]:
        folder.rename(folder.with_name(f"series_{folder.name[4:]}"))
    row = _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]
    assert _counts(row) == [str(len(folders)), "0", "0"]
    assert "series_" not in _reasons(tmp_path / "store" / "warnings.csv")
    assert row["n_slices"] == _rows(kaggle[1] / "cohort.csv")["1"]["n_slices"]
    # With the first ones renamed the order of names is another, and the slices are counted from the other end.
    if end == "last":
        _same(kaggle[1], tmp_path / "store", "1", ("sax", "lax_2c", "lax_4c"))


@pytest.mark.parametrize("kind", ["matrix", "tilt"])
def test_half_a_stack_without_names_is_refused(study, tmp_path, kind):
    """Slices that cannot be used count for the span, also where no name says that they are of the short axis."""
    folders = sorted(study.glob("sax_*"), key=lambda path: int(path.name[4:]))
    for number, folder in enumerate(folders):
        for path in folder.glob("*.dcm"):
            header = pydicom.dcmread(path)
            header.SeriesDescription = ""
            if number >= 0.6 * len(folders) and kind == "matrix":
                header.PixelData, header.Rows = header.pixel_array[:-8].tobytes(), header.Rows - 8
            elif number >= 0.6 * len(folders):
                row, column = np.reshape(header.ImageOrientationPatient, (2, 3))
                tilted = np.cos(np.radians(9)) * row + np.sin(np.radians(9)) * np.cross(row, column)
                header.ImageOrientationPatient = [float(f"{value:.9f}") for value in (*tilted, *column)]
            header.save_as(path)
        folder.rename(folder.with_name(f"series_{folder.name[4:]}"))
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "store", size="small") == 1
    reason = _rows(tmp_path / "store" / "failures.csv")["1"]["reason"]
    assert "the SAX stack is incomplete" in reason
    assert f"there should be {len(folders)}" in reason


@pytest.mark.parametrize("place", ["the same folder", "another", "2ch", "study"])
def test_two_persons_in_one_folder_are_refused(study, tmp_path, place):
    """Slices of two hearts between each other look like one finer stack."""
    sources = sorted(study.glob("2ch_*" if place == "2ch" else "sax_*"))
    for folder in sources:
        target = folder if place == "the same folder" else study / f"{folder.name}9"
        target.mkdir(exist_ok=True)
        for path in list(folder.glob("*.dcm")):
            header = pydicom.dcmread(path)
            header.SeriesInstanceUID += ".9"
            header.StudyInstanceUID = "1.2.3.4"
            if place != "study":
                header.PatientID = "SENTINEL"
            axes = np.reshape(header.ImageOrientationPatient, (2, 3))
            moved = np.array(header.ImagePositionPatient, float) + 4 * np.cross(*axes)
            header.ImagePositionPatient = [float(f"{value:.6f}") for value in moved]
            header.save_as(target / f"other-{path.name}")
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "store", size="small") == 1
    reason = _rows(tmp_path / "store" / "failures.csv")["1"]["reason"]
    assert ("2 StudyInstanceUIDs" if place == "study" else "2 persons (PatientID)") in reason
    assert "SENTINEL" not in reason


def test_slices_that_cannot_be_read_are_counted(study, tmp_path):
    last, before = sorted(study.glob("sax_*"), key=lambda path: int(path.name[4:]))[:-3:-1]
    total = len(list(study.glob("sax_*")))
    for path in last.glob("*.dcm"):
        path.write_bytes(path.read_bytes()[:2000])
    for path in before.glob("*.dcm"):
        header = pydicom.dcmread(path)
        del header.ImagePositionPatient
        header.save_as(path)
    row = _prepared("kaggle", tmp_path / "raw", tmp_path / "store")["1"]
    assert _counts(row) == [str(total), "2", "0"]


def test_the_first_cause_stands_in_the_table(study, tmp_path):
    for path in study.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        header.PixelData = encapsulate([b"\xff\xd8\xff\xc3 damaged "])
        header["PixelData"].VR = "OB"
        header.save_as(path)
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "store", size="small") == 1
    reason = _rows(tmp_path / "store" / "failures.csv")["1"]["reason"]
    assert "IM-" in reason
    assert "its pixels cannot be decoded (JPEG Lossless" in reason


@pytest.fixture(scope="module")
def ukb(tmp_path_factory):
    """One participant as shipped, as folders, and what is prepared from it."""
    raw = tmp_path_factory.mktemp("ukb") / "raw"
    phantom(1, raw, seed=3, size="small", dataset="ukb", frames=3)
    for path in list(raw.glob("*.zip")):
        with zipfile.ZipFile(path) as file:
            file.extractall(path.with_suffix(""))
        path.unlink()
    store = raw.with_name("store")
    (name,) = _prepared("ukb", raw, store)
    return raw, store, name


def _archive(raw: Path, field: str) -> Path:
    return next(raw.glob(f"*_{field}_*"))


def _renamed(folder: Path, names: dict[str, str]) -> None:
    """Gives series other descriptions, in the manifest and in the files, and those with one name one UID."""
    manifest = next(folder.glob("manifest.*"))
    lines = manifest.read_text().splitlines()
    header, rows = lines[0], [line.split(",") for line in lines[1:]]
    for row in rows:
        name = next((new for old, new in names.items() if row[4].startswith(old) and "Inline" not in row[4]), row[4])
        if name != row[4]:
            dataset = pydicom.dcmread(folder / row[0])
            dataset.SeriesDescription, dataset.SeriesInstanceUID = name, f"1.2.3.{len(name)}"
            row[4] = name
            dataset.save_as(folder / row[0])
    manifest.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")


def test_mixed_series_are_sorted_by_geometry(ukb, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(ukb[0], raw)
    _renamed(_archive(raw, "20208"), {"CINE_segmented_LAX": "CINE_segmented_LAX"})
    _renamed(_archive(raw, "20209"), {"CINE_segmented_SAX": "CINE_segmented_SAX"})
    row = _prepared("ukb", raw, tmp_path / "store")[ukb[2]]
    shipped = _rows(ukb[1] / "cohort.csv")[ukb[2]]
    assert (row["views"], row["n_slices"]) == ("sax lax_2c lax_3c lax_4c", shipped["n_slices"])
    _same(ukb[1], tmp_path / "store", ukb[2], ("sax", *LONG))


def test_archives_may_lie_four_folders_down_in_two_trees(ukb, tmp_path):
    raw = tmp_path / "raw"
    for field, place in (("20208", "long/a/b/c"), ("20209", "short")):
        folder = _archive(ukb[0], field)
        shutil.copytree(folder, raw / place / folder.name)
    assert list(_prepared("ukb", raw, tmp_path / "store")) == [ukb[2]]
    _same(ukb[1], tmp_path / "store", ukb[2], ("sax", *LONG))


@pytest.mark.parametrize(("field", "axis", "views"), [("20208", "long", "sax"), ("20209", "short", " ".join(LONG))])
def test_one_field_alone_is_prepared(ukb, tmp_path, field, axis, views):
    raw = tmp_path / "raw"
    shutil.copytree(ukb[0], raw)
    shutil.rmtree(_archive(raw, field))
    assert _prepared("ukb", raw, tmp_path / "store")[ukb[2]]["views"] == views
    assert f"there is no archive of field {field} ({axis} axis)" in _reasons(tmp_path / "store" / "warnings.csv")


def test_real_studies_of_their_own_folders(real, tmp_path):
    """Two scanners, no useful names; nothing of a person's details is written."""
    raw, out = tmp_path / "raw", tmp_path / "store"
    for name in ("siemens_study", "ge_301"):
        with zipfile.ZipFile(real / "dicom" / f"{name}.zip") as file:
            file.extractall(raw / "train" / name / "study")
    rows = _prepared("kaggle", raw, out)
    assert rows["siemens_study"]["views"] == "sax lax_2c lax_4c"
    assert [rows[name]["n_slices_read"] for name in ("siemens_study", "ge_301")] == ["6", "10"]
    assert [rows[name]["n_frames"] for name in ("siemens_study", "ge_301")] == ["25", "20"]
    assert [float(rows[name]["orig_sax_spacing_z"]) for name in rows] == pytest.approx([8.0, 17.7], abs=0.01)
    for path in out.rglob("*"):
        if path.is_file():
            assert b"SENTINEL" not in path.read_bytes()
            assert b"19010203" not in path.read_bytes()
