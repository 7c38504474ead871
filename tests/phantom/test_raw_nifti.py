"""Raw layouts of NIfTI files, read with nibabel and csv only: ACDC, M&Ms, M&Ms-2, EMIDEC, MyoPS."""

import csv
import re

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.phantom.command import phantom


def make(tmp_path_factory, dataset, subjects, **more):
    root = tmp_path_factory.mktemp(dataset) / "raw"
    phantom(subjects, root, seed=1, size="small", dataset=dataset, **{"frames": 5, **more})
    return root


def load(path):
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def volume(labels, code, image):
    return (labels == code).sum() * np.prod(image.header.get_zooms()[:3]) / 1000


@pytest.fixture(scope="module")
def acdc(tmp_path_factory):
    return make(tmp_path_factory, "acdc", 10)


def test_acdc(acdc):
    truth = {row["id"]: row for row in rows(acdc / "phantom_truth.csv")}
    groups = {}
    folders = sorted((acdc / "database").glob("t*/patient*"))
    assert len(folders) == 10
    for folder in folders:
        lines = (folder / "Info.cfg").read_text().splitlines()
        info = dict(line.split(": ") for line in lines)
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        groups.setdefault(folder.parent.name, set()).add(info["Group"])
        assert 130 < float(info["Height"]) < 210
        series, image = load(folder / f"{folder.name}_4d.nii.gz")
        assert series.shape[2:] == (8, 5)
        assert info["NbFrame"] == "5"
        # Frames count from 1, and the frame files are frames of the series.
        assert 1 <= int(info["ED"]) <= 5
        for phase in ("ED", "ES"):
            stem = f"{folder.name}_frame{int(info[phase]):02d}"
            frame, _ = load(folder / f"{stem}.nii.gz")
            labels, label_image = load(folder / f"{stem}_gt.nii.gz")
            np.testing.assert_array_equal(frame, series[..., int(info[phase]) - 1])
            assert set(np.unique(labels)) == {0, 1, 2, 3}
            np.testing.assert_array_equal(label_image.affine, image.affine)
            known = float(truth[folder.name][f"lv_{phase.lower()}v"])
            assert volume(labels, 3, label_image) == pytest.approx(known, abs=0.01)
        assert len(list(folder.iterdir())) == 6
    everything = {"DCM", "HCM", "MINF", "NOR", "RV"}
    assert groups == {"training": everything, "testing": everything}
    assert {row["ed_frame"] for row in truth.values()} == {"0", "2"}  # one series starts late in the cycle


def test_acdc_voxels_match_the_true_volumes_at_full_size(tmp_path):
    phantom(1, tmp_path, seed=2, dataset="acdc", frames=3)
    (truth,) = rows(tmp_path / "phantom_truth.csv")
    assert float(truth["lv_edv"]) == pytest.approx(float(truth["lv_edv_true"]), rel=0.05)
    assert float(truth["rv_edv"]) == pytest.approx(float(truth["rv_edv_true"]), rel=0.1)
    zooms = nib.load(next(tmp_path.rglob("*_4d.nii.gz"))).header.get_zooms()
    assert 1.3 < zooms[0] < 1.75
    assert zooms[2] in (5.0, 10.0)


@pytest.fixture(scope="module")
def mnms(tmp_path_factory):
    return make(tmp_path_factory, "mnms", 8)


def test_mnms(mnms):
    top = mnms / "OpenDataset"
    path = top / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    header = path.read_text().splitlines()[0]
    assert header == ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"
    table = rows(path)
    assert [row[""] for row in table] == [str(number) for number in range(8)]
    places = {folder.name: folder.parent.name for folder in top.glob("*/*/*") if folder.is_dir()}
    places |= {
        folder.name: folder.parent.name for part in ("Validation", "Testing") for folder in (top / part).iterdir()
    }
    assert {row["External code"] for row in table} == set(places)
    assert set(places.values()) == {"Labeled", "Unlabeled", "Validation", "Testing"}
    assert {row["Pathology"] for row in table if places[row["External code"]] == "Labeled"} == {
        *("DCM", "HCM", "NOR", "ARV", "HHD"),
    }
    assert any(not row["Height"] for row in table)
    assert any(not row["Weight"] for row in table)
    truth = {row["id"]: row for row in rows(mnms / "phantom_truth.csv")}
    for row in table:
        code = row["External code"]
        (file,) = top.rglob(f"{code}_sa.nii.gz")
        series, image = load(file)
        labels, label_image = load(file.with_name(f"{code}_sa_gt.nii.gz"))
        assert series.shape == labels.shape
        assert series.shape[3] == 5
        if places[code] == "Unlabeled":
            assert not labels.any()
            continue
        marked = [frame for frame in range(5) if labels[..., frame].any()]
        assert marked == sorted({int(row["ED"]), int(row["ES"])})
        # LV is 1 here.
        found = volume(labels[..., int(row["ED"])], 1, label_image)
        assert found == pytest.approx(float(truth[code]["lv_edv"]), abs=0.01)
        assert series[..., 0].std() > 0
        assert np.abs(image.affine[:3, :3] - np.diag(np.diag(image.affine)[:3])).max() > 0.1  # oblique


def test_mnms2(tmp_path_factory):
    root = make(tmp_path_factory, "mnms2", 6, frames=4)
    table = rows(root / "MnM2" / "dataset_information.csv")
    assert list(table[0]) == ["SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD"]
    numbers = [int(row["SUBJECT_CODE"]) for row in table]
    assert numbers == [1, 2, 3, 4, 161, 201]
    assert {row["VENDOR"] for row in table} <= {"GE MEDICAL SYSTEMS", "Philips Medical Systems", "SIEMENS"}
    for number in numbers:
        folder = root / "MnM2" / "dataset" / f"{number:03d}"
        names = {path.name for path in folder.iterdir()}
        assert names == {
            f"{number:03d}_{view}_{what}.nii.gz"
            for view in ("SA", "LA")
            for what in ("ED", "ES", "ED_gt", "ES_gt", "CINE")
        }
        for view in ("SA", "LA"):
            cine, _ = load(folder / f"{number:03d}_{view}_CINE.nii.gz")
            ed, image = load(folder / f"{number:03d}_{view}_ED.nii.gz")
            labels, label_image = load(folder / f"{number:03d}_{view}_ED_gt.nii.gz")
            np.testing.assert_array_equal(ed, cine[..., 0])
            assert ed.shape == labels.shape
            assert (ed.shape[2] == 1) == (view == "LA")
            assert set(np.unique(labels)) == {0, 1, 2, 3}
            np.testing.assert_array_equal(image.affine, label_image.affine)
            es, _ = load(folder / f"{number:03d}_{view}_ES_gt.nii.gz")
            assert (es == 1).sum() < (labels == 1).sum()


def test_emidec(tmp_path_factory):
    root = make(tmp_path_factory, "emidec", 6)
    top = root / "emidec-dataset-1.0.1"
    texts = sorted(top.glob("Case *.txt"))
    assert [path.stem for path in texts] == [
        f"Case {name}" for name in ("N003", "N006", "P001", "P002", "P004", "P005")
    ]
    found = set()
    for path in texts:
        data = path.read_bytes()
        assert data.count(b"\xa0") == 3
        text = data.decode("mac_roman")
        assert re.search(r"^Troponin\u2020 : [\d.]+$", text, re.MULTILINE)
        assert re.search(r"^FEVG\u2020 +: \d+$", text, re.MULTILINE)
        assert re.search(r"^Tobacco : [123]$", text, re.MULTILINE)
        name = path.stem.replace(" ", "_")
        image, header = load(top / name / "Images" / f"{name}.nii.gz")
        labels, label_header = load(top / name / "Contours" / f"{name}.nii.gz")
        assert image.shape == labels.shape
        np.testing.assert_array_equal(header.affine, label_header.affine)
        codes = set(np.unique(labels))
        assert codes <= ({0, 1, 2} if "N" in path.stem else {0, 1, 2, 3, 4})
        assert {0, 1, 2} <= codes
        found |= codes
        if "P" in path.stem:  # the scar is bright, the healthy muscle dark
            assert image[labels == 3].mean() > 2 * image[labels == 2].mean()
    assert found == {0, 1, 2, 3, 4}


def test_myops(tmp_path_factory):
    root = make(tmp_path_factory, "myops", 4)
    train = sorted(path.name for path in (root / "train25").iterdir())
    assert train == sorted(f"myops_training_{n}_{s}.nii.gz" for n in (101, 102, 103) for s in ("C0", "DE", "T2"))
    test = sorted(path.name for path in (root / "test20").iterdir())
    assert test == sorted(f"myops_test_{n}_{s}.nii.gz" for n in (201,) for s in ("C0", "DE", "T2"))
    assert len(list((root / "train25_myops_gd").iterdir())) == 3
    for number in (101, 102, 103):
        labels, label_image = load(root / "train25_myops_gd" / f"myops_training_{number}_gd.nii.gz")
        assert set(np.unique(labels)) == {0, 200, 500, 600, 1220, 2221}
        images = {}
        for sequence in ("C0", "DE", "T2"):
            images[sequence], image = load(root / "train25" / f"myops_training_{number}_{sequence}.nii.gz")
            assert image.shape == label_image.shape
            np.testing.assert_array_equal(image.affine, label_image.affine)
        scar, edema, healthy, blood = (labels == code for code in (2221, 1220, 200, 500))
        assert images["DE"][scar].mean() > 2 * images["DE"][healthy].mean()
        assert images["T2"][edema].mean() > 1.15 * images["T2"][healthy].mean()
        assert images["C0"][blood].mean() > 2 * images["C0"][healthy].mean()
