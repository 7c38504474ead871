"""Listing and reading of the NIfTI and PNG datasets: splits, quirks, broken tables."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.datasets.files import safe_id, shuffled_split
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare
from cinema_lightning.views import VIEWS

MNMS_HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight\n"


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _splits(name: str, raw: Path) -> dict[str, str]:
    return {case.id: case.split for case in DATASETS[name].cases(raw)}


def _label(shape=(24, 20, 3), lv=1, myocardium=2, rv=3, radius=5) -> np.ndarray:
    maps = np.zeros(shape, np.uint8)
    maps[12 - radius : 12 + radius, 10 - radius : 10 + radius] = myocardium
    maps[14 - radius : 10 + radius, 12 - radius : 8 + radius] = lv
    maps[0:2, 0:3] = rv
    return maps


def _image(seed: int, shape=(24, 20, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)


RAW = ["acdc", "emidec", "kaggle", "landmark", "mnms", "mnms2", "myops", "rescan", "ukb"]


def test_all_nine_and_the_phantom_declare_their_facts():
    assert sorted(DATASETS) == sorted([*RAW, "phantom"])
    for name in DATASETS:
        reader = DATASETS[name]
        assert reader.name == name
        assert reader.display
        assert reader.looked_for
        assert reader.splits
        assert "http" in reader.source or name == "phantom"
        assert set(reader.views) <= set(VIEWS)
        assert set(reader.label_map.values()) == set(reader.labels)


def test_wrong_folders_say_what_was_looked_for(tmp_path):
    for name in RAW:
        with pytest.raises(CinemaError, match="looked for"):
            DATASETS[name].cases(tmp_path)


def test_acdc_validation_subjects_are_the_published_ones(tmp_path):
    for number in range(1, 151):
        folder = tmp_path / "database" / ("training" if number <= 100 else "testing") / f"patient{number:03d}"
        folder.mkdir(parents=True)
        group = ("DCM", "HCM", "MINF", "NOR", "RV")[(number - 1) // 20 % 5]
        (folder / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0")
    splits = _splits("acdc", tmp_path)
    assert [name[-3:] for name, split in splits.items() if split == "val"] == [
        *("002", "019", "022", "032", "054", "056", "061", "079", "082", "088")
    ]
    assert sum(split == "train" for split in splits.values()) == 90
    assert sum(split == "test" for split in splits.values()) == 50


def test_acdc_of_a_few_subjects_keeps_training_subjects(tmp_path):
    for number in range(1, 4):
        folder = tmp_path / "database" / "training" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text(f"ED: 1\nES: 2\nGroup: {'NOR' if number < 3 else 'RV'}\n")
    assert set(_splits("acdc", tmp_path).values()) == {"train"}


def test_myops_validation_subjects_are_the_published_ones(tmp_path):
    for number in range(101, 126):
        path = tmp_path / "train25" / f"myops_training_{number}_C0.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    splits = _splits("myops", tmp_path)
    assert [name for name, split in splits.items() if split == "val"] == ["103", "106", "112", "117", "120"]


def test_emidec_splits_and_daggers(tmp_path):
    root = tmp_path / "emidec-dataset-1.0.1"
    root.mkdir()
    for number in range(1, 101):
        name = f"{'N' if number <= 33 else 'P'}{number:03d}"
        dagger = ("†".encode("mac_roman"), "\u2020".encode("cp1252"), "†".encode(), b"")[number % 4]
        lines = [
            *(
                b"Sex : F",
                b"Age : 70",
                b"Tobacco : 3",
                b"Overweight : N",
                b"Arterial hypertension : Y",
                b"Diabetes : N",
            ),
            *(b"Familial history of coronary artery disease: N", b"ECG (ST +) : Y", b"Killip Max: 1"),
            *(b"Troponin" + dagger + b": 1,1", b"FEVG" + dagger + b" : 60", b"NTProBNP" + dagger + b" : "),
        ]
        (root / f"Case {name}.txt").write_bytes(b"\r\n".join(lines))
    cases = DATASETS["emidec"].cases(tmp_path)
    for group, sizes in (("N", (21, 6, 6)), ("P", (41, 13, 13))):
        splits = [case.split for case in cases if case.id[0] == group]
        assert tuple(splits.count(split) for split in ("train", "val", "test")) == sizes
    for case in cases:
        assert case.problem is None
        assert case.fields["lv_ef"] == 60
        assert case.fields["troponin"] == 1.1
        assert case.fields["ntprobnp"] is None
        assert case.fields["tobacco"] == "Former"
    order = np.array([case.id for case in cases if case.id[0] == "N"])
    assert list(order) == [f"N{number:03d}" for number in range(1, 34)]
    np.random.default_rng(0).shuffle(order)
    assert {case.id for case in cases if case.split == "test" and case.id[0] == "N"} == set(order[-6:])


def test_emidec_lacking_a_line_or_with_a_strange_label(tmp_path, write_nifti):
    root = tmp_path / "emidec-dataset-1.0.1"
    (root).mkdir()
    (root / "Case N001.txt").write_text("Sex : F\nAge : 70\n")
    text = "Sex: F\nAge: 70\nTobacco: 9\nOverweight: N\nArterial hypertension: N\nDiabetes: N\n"
    text += "Troponin: 1\nKillip Max: 1\n"
    text += "Familial history of coronary artery disease: N\nECG (ST +): N\nFEVG: 1\nNTProBNP: 1\n"
    (root / "Case P002.txt").write_text(text)
    write_nifti(root / "Case_P002/Images/Case_P002.nii.gz", _image(0))
    write_nifti(root / "Case_P002/Contours/Case_P002.nii.gz", _label(rv=5))
    assert prepare("emidec", tmp_path, tmp_path / "out") == 1
    failures = _rows(tmp_path / "out" / "failures.csv")
    assert "lacks the line 'Tobacco : ...'" in failures["N001"]["reason"]
    assert "holds 5; known are 0, 1, 2, 3, 4" in failures["P002"]["reason"]
    assert not (tmp_path / "out" / "cohort.csv").exists()


def test_mnms_folders_and_the_unlabeled_trap(tmp_path, write_nifti):
    root = tmp_path / "OpenDataset"
    places = {
        "A1": "Training/Labeled",
        "B 2": "Validation",
        "C3é": "Testing",
        "D4": "Training/Unlabeled",
        "F6": "Training/Labeled",
        "H8": "Testing",
    }
    for seed, (code, place) in enumerate(places.items()):
        folder = root / place / code
        write_nifti(folder / f"{code}_sa.nii.gz", _image(seed, (24, 20, 3, 5)))
        maps = np.zeros((24, 20, 3, 5), np.uint8)
        if code != "D4":
            maps[..., 1], maps[..., 4] = _label(), _label(radius=4)
        write_nifti(folder / f"{code}_sa_gt.nii.gz", maps)
    row = ",Philips,B,2,4,1,50,NOR,M,,70\n"
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(
        MNMS_HEADER
        + "0,A1,Siemens,A,1,4,1,47,HCM,F,171.0,\n"
        + "".join(f"1,{code}{row}" for code in ("B 2", "C3é", "D4", "E5", "F6", "F6"))
    )
    out = tmp_path / "out"
    assert prepare("mnms", tmp_path, out) == 1
    rows, failures = _rows(out / "cohort.csv"), _rows(out / "failures.csv")
    assert {name: row["split"] for name, row in rows.items()} == {"A1": "train", "B 2": "val", "C3é": "test"}
    assert failures.keys() == {"E5", "F6", "H8"}
    assert "no folder" in failures["E5"]["reason"]
    assert "listed 2 times" in failures["F6"]["reason"]
    assert "no row" in failures["H8"]["reason"]
    row = rows["A1"]
    assert (row["ed_frame"], row["es_frame"], row["sex"], row["age"], row["vendor"]) == ("4", "1", "F", "47", "Siemens")
    assert (row["height"], row["weight"], row["bmi"]) == ("1.71", "", "")
    # Entries of the label file follow the frames' order; ED comes later here and is the smaller one.
    labels = open_series(series_path(out, "A1", "sax", "label"))
    assert labels.info.frames == [1, 4]
    assert (labels.read([0]) == 3).sum() > (labels.read([1]) == 3).sum()
    assert float(row["lv_edv"]) < float(row["lv_esv"])


def _mnms_case(root: Path, write_nifti, code: str) -> None:
    folder = root / "OpenDataset" / "Training" / "Labeled" / code
    folder.mkdir(parents=True)
    write_nifti(folder / f"{code}_sa.nii.gz", _image(1, (24, 20, 3, 5)))
    maps = np.zeros((24, 20, 3, 5), np.uint8)
    maps[..., 1], maps[..., 4] = _label(), _label(radius=4)
    write_nifti(folder / f"{code}_sa_gt.nii.gz", maps)


@pytest.mark.parametrize(
    "name", ["201014_M&Ms_Dataset_Information_-_opendataset.csv", "211006_M&Ms_Dataset_information.csv"]
)
def test_mnms_with_the_table_of_an_earlier_release(name, tmp_path, write_nifti):
    _mnms_case(tmp_path, write_nifti, "A1")
    (tmp_path / "OpenDataset" / name).write_text(
        ",External code,VendorName,Vendor,Centre,ED,ES\n0,A1,Siemens,A,1,1,4\n"
    )
    assert prepare("mnms", tmp_path, tmp_path / "out") == 0
    row = _rows(tmp_path / "out" / "cohort.csv")["A1"]
    assert (row["ed_frame"], row["es_frame"], row["vendor"], row["centre"]) == ("1", "4", "Siemens", "1")
    assert (row["pathology"], row["sex"], row["age"], row["bmi"]) == ("", "", "", "")
    assert float(row["lv_edv"]) > float(row["lv_esv"]) > 0
    warning = _rows(tmp_path / "out" / "warnings.csv")["A1"]["reason"]
    assert warning == f"{name} does not say its pathology, sex, age"


def test_of_two_tables_of_mnms_the_later_is_read(tmp_path, write_nifti):
    _mnms_case(tmp_path, write_nifti, "A1")
    root = tmp_path / "OpenDataset"
    (root / "201014_M&Ms_Dataset_Information_-_opendataset.csv").write_text("External code,ED,ES\nA1,0,1\n")
    later = MNMS_HEADER + "0,A1,Siemens,A,1,1,4,47,HCM,F,171.0,60\n"
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(later)
    (case,) = DATASETS["mnms"].cases(tmp_path)
    assert (case.args["ed_frame"], case.fields["pathology"], case.warnings) == (1, "HCM", ())


def test_numbers_of_a_german_spreadsheet(tmp_path, write_nifti):
    _mnms_case(tmp_path, write_nifti, "A1")
    header = MNMS_HEADER.replace(",", ";")
    table = tmp_path / "OpenDataset" / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    table.write_bytes((header + "0;A1;Siemens;A;Zürich;1;4;47;HCM;F;171,5;60,25\n").encode("cp1252"))
    (case,) = DATASETS["mnms"].cases(tmp_path)
    assert case.fields["height"] == pytest.approx(1.715)
    assert (case.fields["weight"], case.fields["centre"], case.fields["age"]) == (60.25, "Zürich", 47)
    table.write_text(header + "0;A1;Siemens;A;Bonn;1;4;47;HCM;F;171,5;60,250\n")
    with pytest.raises(CinemaError, match=r"column 'Weight': '60,250' can be 60250 or 60\.250"):
        DATASETS["mnms"].cases(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    root = tmp_path / "OpenDataset"
    root.mkdir()
    table = root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    table.write_text(MNMS_HEADER.replace(",ES,", ","))
    with pytest.raises(CinemaError, match="lacks the column 'ES'"):
        DATASETS["mnms"].cases(tmp_path)
    table.write_text(MNMS_HEADER + "0,A1,Siemens\n")
    with pytest.raises(CinemaError, match="row 2: 3 cells for 12 columns"):
        DATASETS["mnms"].cases(tmp_path)


def _mnms2(root: Path, write_nifti, number: int, cine: bool, longer: int = 0) -> None:
    name = f"{number:03d}"
    for seed, (view, shape) in enumerate((("SA", (24, 20, 3)), ("LA", (24, 20, 1)))):
        series = _image(10 * number + seed, (*shape, 6 + longer * seed))
        for frame, phase in ((2, "ED"), (4, "ES")):
            write_nifti(root / "dataset" / name / f"{name}_{view}_{phase}.nii.gz", series[..., frame])
            write_nifti(root / "dataset" / name / f"{name}_{view}_{phase}_gt.nii.gz", _label(shape, radius=8 - frame))
        if cine:
            write_nifti(root / "dataset" / name / f"{name}_{view}_CINE.nii.gz", series)


def test_mnms2_with_and_without_cine(tmp_path, write_nifti):
    root = tmp_path / "MnM2"
    _mnms2(root, write_nifti, 7, cine=True)
    _mnms2(root, write_nifti, 161, cine=False)
    _mnms2(root, write_nifti, 162, cine=True, longer=3)
    (root / "dataset_information.csv").write_text(
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n"
        "7,HCM,SIEMENS,Avanto,1.5\n161,NOR,GE MEDICAL SYSTEMS,X,3\n162,NOR,SIEMENS,X,3\n300,TRI,SIEMENS,Y,1.5\n"
    )
    out = tmp_path / "out"
    assert prepare("mnms2", tmp_path, out) == 1
    rows = _rows(out / "cohort.csv")
    assert {name: row["split"] for name, row in rows.items()} == {"007": "train", "161": "val", "162": "val"}
    assert [(row["n_frames"], row["ed_frame"], row["es_frame"]) for row in rows.values()] == [
        ("6", "2", "4"),
        ("2", "0", "1"),
        ("2", "0", "1"),  # its LA cine is longer, so that ED and ES would be other frames by phase
    ]
    assert (rows["007"]["field_strength"], rows["161"]["field_strength"]) == ("1.5", "3")
    for view in ("sax", "lax_4c"):
        assert open_series(series_path(out, "007", view, "label")).info.frames == [2, 4]
        assert open_series(series_path(out, "161", view, "label")).info.frames is None
        cine = open_series(series_path(out, "007", view))
        assert cine.n_frames == 6
    assert "300_SA_ED.nii.gz is missing" in _rows(out / "failures.csv")["300"]["reason"]


def test_myops_channels_and_test_cases_without_labels(tmp_path, write_nifti):
    for seed, sequence in enumerate(("C0", "DE", "T2")):
        write_nifti(
            tmp_path / f"train25/myops_training_101_{sequence}.nii.gz", _image(seed, (24, 200, 3)), (0.75, 0.75, 14)
        )
        write_nifti(tmp_path / f"test20/myops_test_201_{sequence}.nii.gz", _image(seed, (24, 20, 3)))
        write_nifti(tmp_path / f"test20/myops_training_202_{sequence}.nii.gz", _image(seed, (24, 20, 3)))
    maps = np.zeros((24, 200, 3), np.int16)
    for index, value in enumerate((500, 600, 200, 1220, 2221)):
        maps[index, 100] = value
    write_nifti(tmp_path / "train25_myops_gd/myops_training_101_gd.nii.gz", maps, (0.75, 0.75, 14))
    out = tmp_path / "out"
    assert prepare("myops", tmp_path, out) == 0
    rows = _rows(out / "cohort.csv")
    assert {name: row["split"] for name, row in rows.items()} == {"101": "train", "201": "test", "202": "test"}
    series = open_series(series_path(out, "101", "sax"))
    assert (series.n_frames, series.shape) == (3, (24, 192, 3))
    assert series.info.provenance["channels"] == ["C0", "DE", "T2"]
    assert series.info.spacing == (0.75, 0.75, 14.0)
    labels = open_series(series_path(out, "101", "sax", "label"))
    assert labels.info.frames == [0]
    assert labels.read()[0, :5, 96, 0].tolist() == [2, 1, 3, 4, 5]
    assert not series_path(out, "201", "sax", "label").exists()
    row = rows["101"]
    assert [row[f"crop_{side}_{axis}"] for side in ("lower", "upper") for axis in "xy"] == ["0", "4", "0", "4"]


def test_landmark_splits_by_person_and_view(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    for view in ("lax_2c", "lax_4c"):
        uids = [f"{person:04d}__{frame:02d}" for person in range(20) for frame in (3, 9)]
        lines = [f"cohort,{uid},{view},{mark},1,1\n" for uid in uids for mark in (1, 2, 3)]
        (root / f"{view}.csv").write_text("".join(lines))
    cases = DATASETS["landmark"].cases(tmp_path)
    assert len(cases) == len({case.id for case in cases}) == 80
    for view in ("lax_2c", "lax_4c"):
        splits = {case.subject: case.split for case in cases if case.args["view"] == view}
        assert len(splits) == 20
        assert sorted(splits.values()) == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    assert cases[0].fields["frame"] == "03"


def test_landmark_bad_images(tmp_path):
    from PIL import Image

    root = tmp_path / "raw"
    for kind in ("images", "masks"):
        (root / "lax_2c" / kind).mkdir(parents=True)
    uids = ("0001__01", "0002__01", "0003__01")
    (root / "lax_2c.csv").write_text("".join(f"c,{uid},lax_2c,1,1,1\n" for uid in uids))
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(root / "lax_2c/images/0001__01.png")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(root / "lax_2c/masks/0001__01.png")
    (root / "lax_2c/images/0002__01.png").write_bytes((root / "lax_2c/images/0001__01.png").read_bytes()[:40])
    assert prepare("landmark", tmp_path, tmp_path / "out") == 1
    failures = _rows(tmp_path / "out" / "failures.csv")
    assert (
        "no pixel of value 85 (hinge_1)" in failures["0001__01_lax_2c"]["reason"]
        or "every pixel" in failures["0001__01_lax_2c"]["reason"]
    )
    assert "cannot be read" in failures["0002__01_lax_2c"]["reason"]
    assert "is missing" in failures["0003__01_lax_2c"]["reason"]


def test_shuffled_split_is_the_published_one():
    ids = [f"{number:02d}" for number in range(10)]
    order = np.array(ids)
    np.random.default_rng(0).shuffle(order)
    splits = shuffled_split(ids)
    assert [splits[name] for name in order] == ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_safe_ids():
    assert safe_id("G 1/s_0001") == "G_1_s_0001"
    assert safe_id("é-1") == "é-1"
    for bad in ("..", "", "//", ".hidden"):
        with pytest.raises(CinemaError):
            safe_id(bad)
