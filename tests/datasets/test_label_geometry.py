"""Label maps that lie elsewhere than their images by their headers: brought back to the voxel, or refused."""

import csv
import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare

SHAPE, SPACING = (24, 20, 4), (1.25, 1.25, 10.0)
# Voxels of 1.25 x 1.25 x 10 mm that are LV at ED, in ml.
LV_EDV = 8 * 6 * 3 * 1.25 * 1.25 * 10 / 1000
MNMS = (
    ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight\n0,A1,Siemens,A,1,0,2,40,NOR,F,,\n"
)
EMIDEC = (
    "Sex: F\nAge: 70\nTobacco: 1\nOverweight: N\nArterial hypertension: N\nDiabetes: N\nTroponin: 1\nKillip Max: 1\n"
    "Familial history of coronary artery disease: N\nECG (ST +): N\nFEVG: 1\nNTProBNP: 1\n"
)


def _maps(rv: int, myocardium: int, lv: int, shrink: int = 0, depth: int = 4) -> np.ndarray:
    """A heart without any symmetry: RV at low x and y, no LV in the last slice of several."""
    maps = np.zeros((*SHAPE[:2], depth), np.uint8 if max(rv, lv) < 256 else np.int16)
    maps[8:18, 5:13] = myocardium
    maps[9 : 17 - shrink, 6:12, : max(depth - 1, 1)] = lv
    maps[2:7, 3:9] = rv
    return maps


def _image(maps: np.ndarray, rv: int, lv: int) -> np.ndarray:
    """Bright blood over noise."""
    noise = np.random.default_rng(int(maps.sum())).integers(0, 50, maps.shape)
    return (noise + 700 * ((maps == rv) | (maps == lv))).astype(np.int16)


def _acdc(raw: Path, write: Callable[..., Path]) -> None:
    folder = raw / "database/training/patient001"
    ed, es = _maps(1, 2, 3), _maps(1, 2, 3, 3)
    frames = np.stack([_image(maps, 1, 3) for maps in (ed, ed, es)], -1)
    write(folder / "patient001_4d.nii.gz", frames, SPACING)
    write(folder / "patient001_frame01_gt.nii.gz", ed, SPACING)
    write(folder / "patient001_frame03_gt.nii.gz", es, SPACING)
    (folder / "Info.cfg").write_text("ED: 1\nES: 3\nGroup: NOR\n")


def _mnms(raw: Path, write: Callable[..., Path]) -> None:
    folder = raw / "OpenDataset/Training/Labeled/A1"
    ed, es = _maps(3, 2, 1), _maps(3, 2, 1, 3)
    write(folder / "A1_sa.nii.gz", np.stack([_image(maps, 3, 1) for maps in (ed, ed, es)], -1), SPACING)
    write(folder / "A1_sa_gt.nii.gz", np.stack([ed, np.zeros_like(ed), es], -1), SPACING)
    (raw / "OpenDataset/211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(MNMS)


def _mnms2(raw: Path, write: Callable[..., Path]) -> None:
    folder = raw / "MnM2/dataset/007"
    for short, depth in (("SA", 4), ("LA", 1)):
        maps = {"ED": _maps(3, 2, 1, depth=depth), "ES": _maps(3, 2, 1, 3, depth)}
        images = {phase: _image(one, 3, 1) for phase, one in maps.items()}
        for phase in maps:
            write(folder / f"007_{short}_{phase}.nii.gz", images[phase], SPACING)
            write(folder / f"007_{short}_{phase}_gt.nii.gz", maps[phase], SPACING)
        cine = np.stack([images["ED"] + 1, images["ED"], images["ES"]], -1)
        write(folder / f"007_{short}_CINE.nii.gz", cine, SPACING)
    (raw / "MnM2/dataset_information.csv").write_text(
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n7,HCM,SIEMENS,A,1.5\n"
    )


def _emidec(raw: Path, write: Callable[..., Path]) -> None:
    root = raw / "emidec-dataset-1.0.1"
    maps = _maps(4, 2, 1)
    write(root / "Case_P002/Images/Case_P002.nii.gz", _image(maps, 4, 1), SPACING)
    write(root / "Case_P002/Contours/Case_P002.nii.gz", maps, SPACING)
    (root / "Case P002.txt").write_text(EMIDEC)


def _myops(raw: Path, write: Callable[..., Path]) -> None:
    maps = _maps(600, 200, 500)
    for sequence in ("C0", "DE", "T2"):
        write(raw / f"MyoPS2020/train25/myops_training_101_{sequence}.nii.gz", _image(maps, 600, 500), SPACING)
    write(raw / "MyoPS2020/train25_myops_gd/myops_training_101_gd.nii.gz", maps, SPACING)


# Dataset -> (its raw folder, files that are label maps, the study).
DATASETS = {
    "acdc": (_acdc, "*_gt.nii.gz", "patient001"),
    "mnms": (_mnms, "*_gt.nii.gz", "A1"),
    "mnms2": (_mnms2, "*_gt.nii.gz", "007"),
    "emidec": (_emidec, "Contours/*.nii.gz", "P002"),
    "myops": (_myops, "*_gd.nii.gz", "101"),
}


def _turned(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))


def _shifted(image: nib.Nifti1Image) -> nib.Nifti1Image:
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 0]
    return nib.Nifti1Image(np.roll(np.asarray(image.dataobj), -1, axis=0), affine)


def _cut(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.slicer[2:-3, 3:-4]


def _away(image: nib.Nifti1Image) -> nib.Nifti1Image:
    affine = image.affine.copy()
    affine[1, 3] += 40
    return nib.Nifti1Image(np.asarray(image.dataobj), affine)


def _coarse(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([1, 1, 0.98, 1]))


def _rotated(image: nib.Nifti1Image) -> nib.Nifti1Image:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    return nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine)


def _floating(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float32) * np.float32(0.9999999) + 2e-4, image.affine)


def _change(raw: Path, pattern: str, change: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> None:
    for path in raw.rglob(pattern):
        image = nib.load(path)
        nib.save(change(nib.Nifti1Image(np.asarray(image.dataobj), image.affine)), path)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The stores of the untouched raw folders, made once each."""
    root = tmp_path_factory.mktemp("reference")

    def store(name: str, write) -> Path:
        out = root / name / "out"
        if not out.exists():
            DATASETS[name][0](root / name / "raw", write)
            assert prepare(name, root / name / "raw", out) == 0
            assert _rows(out / "warnings.csv") == []
        return out

    return store


@pytest.mark.parametrize("change", [_turned, _shifted, _cut, _floating])
@pytest.mark.parametrize("name", DATASETS)
def test_maps_come_back_to_their_images(name, change, tmp_path, write_nifti, reference):
    make, pattern, study = DATASETS[name]
    make(tmp_path, write_nifti)
    _change(tmp_path, pattern, change)
    expected, out = reference(name, write_nifti), tmp_path / "out"
    assert prepare(name, tmp_path, out) == 0
    assert (out / "cohort.csv").read_bytes() == (expected / "cohort.csv").read_bytes()
    for view in ("sax", "lax_4c") if name == "mnms2" else ("sax",):
        for kind in ("image", "label"):
            paths = [series_path(root, study, view, kind) for root in (expected, out)]
            np.testing.assert_array_equal(open_series(paths[1]).read(), open_series(paths[0]).read())
    image, label = (open_series(series_path(out, study, "sax", kind)).read([0])[0] for kind in ("image", "label"))
    assert image[label == 1].mean() > 180  # bright blood, where noise is below 20
    said = [row["reason"] for row in _rows(out / "warnings.csv")]
    assert bool(said) == (change is not _floating)
    assert all("by its header" in reason for reason in said)
    if name in ("acdc", "mnms", "mnms2"):
        # 1 mm voxels hold it to a voxel's rim; the exact number is the untouched study's, compared above
        assert float(_rows(out / "cohort.csv")[0]["lv_edv"]) == pytest.approx(LV_EDV, rel=0.08)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(_away, "40.0 mm away"), (_coarse, "voxels of 1.25 x 1.25 x 9.8 mm"), (_rotated, "rotated against its image")],
)
@pytest.mark.parametrize("name", DATASETS)
def test_contradictions_fail_the_study(name, change, reason, tmp_path, write_nifti):
    make, pattern, study = DATASETS[name]
    make(tmp_path, write_nifti)
    _change(tmp_path, pattern, change)
    assert prepare(name, tmp_path, tmp_path / "out") == 1
    (failure,) = _rows(tmp_path / "out" / "failures.csv")
    assert (failure["id"], failure["step"]) == (study, "read")
    assert f"label map of frame {1 if name == 'mnms2' else 0}" in failure["reason"]
    assert reason in failure["reason"]
    assert next(tmp_path.rglob(pattern)).name.split("_")[0] in failure["reason"]


def test_a_stack_whose_slices_are_not_the_third_axis(tmp_path, write_nifti):
    """Image and maps agree and EDV looks right, but the images are cut along the wrong axes."""
    _acdc(tmp_path, write_nifti)
    _change(tmp_path, "*_gt.nii.gz", lambda image: image.as_reoriented(np.array([[1, 1], [2, 1], [0, 1]])))
    _change(tmp_path, "*_4d.nii.gz", lambda image: image.as_reoriented(np.array([[1, 1], [2, 1], [0, 1]])))
    assert prepare("acdc", tmp_path, tmp_path / "out") == 1
    (failure,) = _rows(tmp_path / "out" / "failures.csv")
    assert "sax has pixels of 10 x 1.25 mm and slices of 1.25 mm by its header" in failure["reason"]
    assert "store it with the slices along the third axis" in failure["reason"]


def test_labels_between_whole_numbers_name_the_value(tmp_path, write_nifti):
    _acdc(tmp_path, write_nifti)
    _change(tmp_path, "*_gt.nii.gz", lambda image: nib.Nifti1Image(image.get_fdata() + 0.002, image.affine))
    assert prepare("acdc", tmp_path, tmp_path / "out") == 1
    assert "holds 0.002, 1.002, 2.002, 3.002; known are" in _rows(tmp_path / "out" / "failures.csv")[0]["reason"]


def test_frames_that_lie_elsewhere(tmp_path, write_nifti, reference):
    """ED and ES of M&Ms-2 and the sequences of MyoPS are images on one grid; a cine on another is left out."""
    _mnms2(tmp_path / "a", write_nifti)
    _change(tmp_path / "a", "*_SA_ES.nii.gz", _turned)
    _change(tmp_path / "a", "*_SA_CINE.nii.gz", _turned)
    assert prepare("mnms2", tmp_path / "a", tmp_path / "a/out") == 0
    paths = [series_path(root, "007", "sax") for root in (reference("mnms2", write_nifti), tmp_path / "a/out")]
    np.testing.assert_array_equal(open_series(paths[1]).read(), open_series(paths[0]).read())

    _mnms2(tmp_path / "b", write_nifti)
    _change(tmp_path / "b", "*_SA_CINE.nii.gz", _coarse)
    assert prepare("mnms2", tmp_path / "b", tmp_path / "b/out") == 0
    (row,) = _rows(tmp_path / "b/out/cohort.csv")
    assert (row["n_frames"], row["ed_frame"], row["es_frame"]) == ("2", "0", "1")
    assert "the cine was left out" in _rows(tmp_path / "b/out/warnings.csv")[0]["reason"]

    for name, make, pattern in (("mnms2", _mnms2, "*_SA_ES.nii.gz"), ("myops", _myops, "*_T2.nii.gz")):
        make(tmp_path / name, write_nifti)
        _change(tmp_path / name, pattern, _away)
        assert prepare(name, tmp_path / name, tmp_path / name / "out") == 1
        assert "40.0 mm away" in _rows(tmp_path / name / "out/failures.csv")[0]["reason"]


def test_a_series_of_maps_with_other_frames_than_its_image(tmp_path, write_nifti):
    _mnms(tmp_path, write_nifti)
    _change(tmp_path, "*_gt.nii.gz", lambda image: image.slicer[..., :2])
    assert prepare("mnms", tmp_path, tmp_path / "out") == 1
    assert "A1_sa_gt.nii.gz has 2 frames and its image 3" in _rows(tmp_path / "out" / "failures.csv")[0]["reason"]


def test_other_endings_are_found_by_all_five(tmp_path, write_nifti, reference):
    for name, (make, _, _) in DATASETS.items():
        make(tmp_path / name, write_nifti)
        for path in list((tmp_path / name).rglob("*.nii.gz")):
            nib.save(nib.load(path), path.with_name(path.name[:-3]))
            path.unlink()
        assert prepare(name, tmp_path / name, tmp_path / name / "out") == 0
        expected = (reference(name, write_nifti) / "cohort.csv").read_bytes()
        assert (tmp_path / name / "out/cohort.csv").read_bytes() == expected


def _contradict(path: Path, wrong: str) -> None:
    """Writes 1 x 1 x 1 mm into one of the two places that a header has for the size of a voxel."""
    image = nib.load(path)
    data = bytearray(nib.Nifti1Image(np.asarray(image.dataobj), image.affine).to_bytes())
    if wrong == "sform":
        struct.pack_into("<12f", data, 280, *(np.eye(4)[:3] * [-1, 1, 1, 1]).ravel())
    else:
        struct.pack_into("<3f", data, 80, 1, 1, 1)
    path.write_bytes(gzip.compress(data))


@pytest.mark.parametrize(("wrong", "right"), [("sform", "pixdim"), ("pixdim", "sform")])
def test_the_choice_between_sform_and_pixdim(tmp_path, write_nifti, capsys, reference, wrong, right):
    """Either may be right; the volume is the true one by the user's choice, and another choice is prepared anew."""
    _acdc(tmp_path, write_nifti)
    for path in tmp_path.rglob("*.nii.gz"):
        _contradict(path, wrong)
    out = tmp_path / "out"
    sizes = {wrong: "1 x 1 x 1 mm", right: "1.25 x 1.25 x 10 mm"}
    assert prepare("acdc", tmp_path, out) == 1
    reason = _rows(out / "failures.csv")[0]["reason"]
    assert f"patient001_4d.nii.gz: its sform says voxels of {sizes['sform']}, its pixdim {sizes['pixdim']}" in reason
    assert "--geometry sform or --geometry pixdim" in reason
    assert prepare("acdc", tmp_path, out, geometry=right) == 0
    row, true = _rows(out / "cohort.csv")[0], _rows(reference("acdc", write_nifti) / "cohort.csv")[0]
    assert (row["lv_edv"], row["orig_sax_spacing_z"]) == (true["lv_edv"], "10.0")
    assert f"{right} was taken" in _rows(out / "warnings.csv")[0]["reason"]
    capsys.readouterr()
    assert prepare("acdc", tmp_path, out, geometry=right) == 0
    assert "0 prepared, 1 already up to date" in capsys.readouterr().out
    # Without the choice it fails again, and the table that is still there is said to be an earlier run's.
    assert prepare("acdc", tmp_path, out) == 1
    assert f"{out / 'cohort.csv'} is an earlier run's" in capsys.readouterr().out


def test_the_choice_is_refused_where_it_would_do_nothing(tmp_path):
    (tmp_path / "train/train/1/study/2ch_1").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("Id,Systole,Diastole\n1,50,120\n")
    with pytest.raises(CinemaError, match="not read from NIfTI files: leave --geometry out"):
        prepare("kaggle", tmp_path, tmp_path / "out", geometry="pixdim")
