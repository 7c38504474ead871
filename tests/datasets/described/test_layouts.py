"""Layouts that people have, each made of phantoms: looked at or listed, described, prepared, and tested."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data.facts import facts_of
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.described.stored import described
from cinema_lightning.errors import CinemaError

SUBJECTS, FRAMES = 6, 4
TRAIN = ["--config", "seg.yaml", "--config", "laptop.yaml", "--data.num_workers=0", "--trainer.max_epochs=1"]
TRAIN += ["--trainer.limit_train_batches=1", "--model.network.size=tiny", "--data.input_size={sax: [64, 64, 8]}"]
LABELS = {"RV": 1, "MYO": 2, "LV": 3}


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


class Hearts:
    """Phantom hearts as ACDC ships them, and the store that its own reader makes of them."""

    def __init__(self, root: Path) -> None:
        self.raw, self.store = root / "raw", root / "store"
        size = ["--subjects", str(SUBJECTS), "--frames", str(FRAMES), "--size", "small"]
        assert main(["phantom", "--dataset", "acdc", "--out", str(self.raw), *size]) == 0
        assert main(["prepare", "acdc", "--raw", str(self.raw), "--out", str(self.store), "--size", "small"]) == 0
        self.rows = _rows(self.store / "cohort.csv")
        self.full = root / "full"
        self.folders = {path.parent.name: path.parent for path in self.raw.rglob("Info.cfg")}

    def files(self, name: str) -> tuple[Path, dict[str, Path]]:
        """The cine and the label maps by phase."""
        folder, row = self.folders[name], self.rows[name]
        numbers = {phase: int(row[f"{phase.lower()}_frame"]) + 1 for phase in ("ED", "ES")}
        maps = {phase: folder / f"{name}_frame{number:02d}_gt.nii.gz" for phase, number in numbers.items()}
        return folder / f"{name}_4d.nii.gz", maps

    def table(self, path: Path, key: str, cell: Callable[[str], str] = str, first: int = 1) -> None:
        lines = [f"{key},ed,es,pathology"]
        for name, row in self.rows.items():
            frames = (str(int(row[f"{phase}_frame"]) + first) for phase in ("ed", "es"))
            lines.append(",".join([cell(name), *frames, row["pathology"]]))
        path.write_text("\n".join(lines).replace(",", "\t" if path.suffix == ".tsv" else ",") + "\n")


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    return Hearts(tmp_path_factory.mktemp("hearts"))


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)


def _per_subject(hearts: Hearts, to: Path) -> None:
    for name in hearts.rows:
        cine, maps = hearts.files(name)
        _copy(cine, to / name / "sax.nii.gz")
        for phase, path in maps.items():
            _copy(path, to / name / f"sax_{phase.lower()}_mask.nii.gz")
    hearts.table(to / "people.csv", "patient")


def _one_folder(hearts: Hearts, to: Path) -> None:
    for name in hearts.rows:
        cine, maps = hearts.files(name)
        _copy(cine, to / f"{name}_SA.nii.gz")
        for phase, path in maps.items():
            _copy(path, to / f"{name}_SA_{phase}_gt.nii.gz")
    hearts.table(to / "people.csv", "patient")


def _bids(hearts: Hearts, to: Path) -> None:
    for name in hearts.rows:
        cine, maps = hearts.files(name)
        person, stem = f"sub-{name}", f"sub-{name}/ses-1/anat/sub-{name}_ses-1"
        _copy(cine, to / f"{stem}_acq-sax_cine.nii.gz")
        for phase, path in maps.items():
            _copy(path, to / f"derivatives/manual/{stem}_acq-sax_phase-{phase}_dseg.nii.gz")
        assert person
    hearts.table(to / "participants.tsv", "participant_id", lambda name: f"sub-{name}")


def _published(hearts: Hearts, to: Path) -> None:
    """As the published preparation writes it: ED and ES alone, eight bits, cropped."""
    assert main(["prepare", "acdc", "--raw", str(hearts.raw), "--out", str(hearts.full)]) == 0
    tables: dict[str, list[str]] = {}
    for name, row in hearts.rows.items():
        image = open_series(series_path(hearts.full, name, "sax"))
        label = open_series(series_path(hearts.full, name, "sax", "label"))
        folder = to / row["split"] / name
        folder.mkdir(parents=True)
        for entry, phase in enumerate(("ed", "es")):
            frame = image.read([int(row[f"{phase}_frame"])])[0]
            for end, voxels in (("", frame), ("_gt", label.read([entry])[0])):
                nib.save(nib.Nifti1Image(voxels, image.info.affine), folder / f"{name}_sax_{phase}{end}.nii.gz")
        tables.setdefault(row["split"], ["pid,n_slices,pathology"]).append(
            f"{name},{row['n_slices']},{row['pathology']}"
        )
    for split, lines in tables.items():
        (to / f"{split}.csv").write_text("\n".join(lines) + "\n")


LAYOUTS = {"subject": _per_subject, "files": _one_folder, "bids": _bids, "published": _published}


def _train_and_test(root: Path, name: str, store: str = "") -> None:
    assert main(["fit", *TRAIN, "--data.root", f"data/{store or name}"]) == 0
    assert main(["test", "--config", "seg.yaml", "--config", "laptop.yaml", "--data.num_workers=0"]) == 0
    assert (root / f"runs/seg+laptop/0/test/{name}/cases.csv").is_file()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_looked_at_and_prepared_like_acdc(layout, hearts, tmp_path, monkeypatch):
    """The volumes are those of ACDC's own reader: same images, same label maps, same frames."""
    monkeypatch.chdir(tmp_path)
    LAYOUTS[layout](hearts, tmp_path / layout)
    assert main(["prepare", "--guess", layout]) == 0
    text = (tmp_path / f"{layout}.yaml").read_text()
    assert "sax" in text
    # what cannot be known is asked for, and prepared by no means without
    if layout != "published":
        assert "It could not be known" in text
        (tmp_path / f"{layout}.yaml").write_text(text.replace("frames_from: null", "frames_from: 1"))
    command = ["prepare", f"{layout}.yaml", "--raw", layout, "--out", f"data/{layout}"]
    assert main([*command, *(["--size", "small"] if layout != "published" else [])]) == 0
    assert main(["verify", layout, "--root", f"data/{layout}"]) == 0
    rows = _rows(tmp_path / f"data/{layout}/cohort.csv")
    assert len(rows) == SUBJECTS
    for study, row in rows.items():
        name = next(name for name in hearts.rows if name in study)
        truth = (_rows(hearts.full / "cohort.csv") if layout == "published" else hearts.rows)[name]
        assert row["n_slices"] == truth["n_slices"]
        assert row["pathology"] == truth["pathology"]
        assert row["subject"] == (f"sub-{name}" if layout == "bids" else name)
        if layout == "published":
            assert "crop_centre" not in row
            stores = (tmp_path / f"data/{layout}", hearts.full)
            here, there = (open_series(series_path(store, name, "sax")) for store in stores)
            np.testing.assert_array_equal(here.read(), there.read([int(truth["ed_frame"]), int(truth["es_frame"])]))
            assert (row["ed_frame"], row["es_frame"], row["split"]) == ("0", "1", truth["split"])
        else:
            assert (row["ed_frame"], row["es_frame"]) == (truth["ed_frame"], truth["es_frame"])
        for column in ("lv_edv", "lv_esv", "rv_edv", "lv_ef", "lv_mass"):
            assert float(row[column]) == pytest.approx(float(truth[column]), rel=1e-3), (name, column)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_reaches_a_tested_segmentation(layout, hearts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LAYOUTS[layout](hearts, tmp_path / layout)
    assert main(["prepare", "--guess", layout]) == 0
    path = tmp_path / f"{layout}.yaml"
    text = path.read_text().replace("frames_from: null", "frames_from: 1")
    path.write_text(text.replace("train: 0.7", "train: 0.4").replace("val: 0.1", "val: 0.4"))
    size = ["--size", "small"] if layout != "published" else []
    assert main(["prepare", f"{layout}.yaml", "--raw", layout, "--out", f"data/{layout}", *size]) == 0
    _train_and_test(tmp_path, layout)


def _nnunet(hearts: Hearts, to: Path, *, frames: bool) -> None:
    """nnU-Net raw: cases of one person are told by their phase or by the number of the frame."""
    for name, row in hearts.rows.items():
        cine, maps = hearts.files(name)
        part = "Ts" if row["split"] == "test" else "Tr"
        image = nib.load(cine)
        for phase, path in maps.items():
            number = int(row[f"{phase.lower()}_frame"])
            case = f"{name}_frame{number + 1:02d}" if frames else f"{name}_{phase}"
            voxels = np.asarray(image.dataobj)[..., number]
            (to / f"images{part}").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, image.affine), to / f"images{part}/{case}_0000.nii.gz")
            _copy(path, to / f"labels{part}/{case}.nii.gz")
    about = {
        "name": "ACDC",
        "channel_names": {"0": "cineMRI"},
        "labels": {"background": 0, **LABELS},
        "file_ending": ".nii.gz",
    }
    (to / "dataset.json").write_text(json.dumps({**about, "numTraining": 4}))


@pytest.mark.parametrize("frames", [False, True])
def test_nnunet_raw_is_a_description_already(frames, hearts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _nnunet(hearts, tmp_path / "Dataset027", frames=frames)
    command = ["prepare", "Dataset027/dataset.json", "--out", "data/nn", "--size", "small"]
    assert main(command) == 0
    assert main(["verify", "my_acdc", "--root", "data/nn"]) == 0
    rows = _rows(tmp_path / "data/nn/cohort.csv")
    assert len(rows) == SUBJECTS  # not twice as many: ED and ES of a person never train and test
    for name, row in rows.items():
        truth = hearts.rows[name]
        assert row["split"] == ("test" if truth["split"] == "test" else "train")
        for column in ("lv_edv", "lv_esv", "lv_ef"):
            assert float(row[column]) == pytest.approx(float(truth[column]), rel=1e-6), (name, column)
    if not frames:
        _train_and_test(tmp_path, "my_acdc", "nn")


def test_a_monai_datalist_is_a_description_already(hearts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lists: dict[str, list[dict[str, object]]] = {"training": [], "validation": [], "test": []}
    for name, row in hearts.rows.items():
        cine, maps = hearts.files(name)
        voxels = np.asarray(nib.load(cine).dataobj)[..., int(row["ed_frame"])]
        (tmp_path / "scans").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, nib.load(cine).affine), tmp_path / f"scans/{name}.nii.gz")
        _copy(maps["ED"], tmp_path / f"labels/{name}.nii.gz")
        key = {"train": "training", "val": "validation"}.get(row["split"], "test")
        item = {"image": f"scans/{name}.nii.gz", "label": f"labels/{name}.nii.gz", "age": 61.5}
        lists[key].append(item)
    datalist = {"labels": {"0": "background", "1": "RV", "2": "myocardium", "3": "LV"}, **lists}
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    assert main(["prepare", "list.json", "--out", "data/x", "--size", "small"]) == 0
    rows = _rows(tmp_path / "data/x/cohort.csv")
    assert {name: row["split"] for name, row in rows.items()} == {
        name: row["split"] or "test" for name, row in hearts.rows.items()
    }
    assert {row["age"] for row in rows.values()} == {"61.5"}
    assert {row["crop_centre"] for row in rows.values()} == {"none"}
    name = next(iter(rows))
    label = open_series(series_path(tmp_path / "data/x", name, "sax", "label")).read()
    assert set(np.unique(label).tolist()) == {0, 1, 2, 3}


def test_a_datalist_of_named_phases_and_another_view(hearts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    items = []
    for name in hearts.rows:
        cine, maps = hearts.files(name)
        image = nib.load(cine)
        for word, phase in (("dia", "ED"), ("sys", "ES")):
            Path("x").mkdir(exist_ok=True)
            for end, voxels in (
                ("", np.asarray(image.dataobj)[..., 0]),
                ("_gt", np.asarray(nib.load(maps[phase]).dataobj)),
            ):
                nib.save(nib.Nifti1Image(voxels[:, :, :1], image.affine), f"x/{name}_{word}{end}.nii.gz")
            items.append(
                {"image": f"x/{name}_{word}.nii.gz", "label": f"x/{name}_{word}_gt.nii.gz", "fold": len(items) // 4}
            )
    Path("list.json").write_text(json.dumps({"labels": LABELS, "training": items}))
    command = ["prepare", "list.json", "--out", "data/x", "--view", "lax_4c"]
    assert main([*command, "--phases", "[dia]"]) == 2
    assert "give the words for ED and ES" in capsys.readouterr().err
    assert main([*command, "--phases", "[dia,sys]"]) == 0
    rows = _rows(tmp_path / "data/x/cohort.csv")
    assert len(rows) == SUBJECTS
    assert {(row["views"], row["ed_frame"], row["es_frame"]) for row in rows.values()} == {("lax_4c", "0", "1")}
    assert [row["split"] for row in rows.values()].count("val") == 2  # fold 0


def test_a_store_says_itself_what_it_was_made_of(hearts, tmp_path):
    assert facts_of(None, hearts.store).name == "acdc"
    assert facts_of(None, tmp_path).name == "phantom"
    with pytest.raises(CinemaError, match="no dataset called 'mine'"):
        facts_of("mine", hearts.store)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"labels": {"LV": 1}}, "neither nnU-Net's dataset.json"),
        ({"training": [{"label": "a.nii.gz"}]}, "item 0 of training names no image"),
        ({"training": [{"image": "a.nii.gz"}], "test": [{"image": "a.nii.gz"}]}, "in two of the lists"),
        ({"training": [{"image": "a.nii.gz"}], "labels": {"LV": 1, "ignore": 2}}, "labels.ignore"),
        ({"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}, "what the codes of its label maps mean"),
        ({"training": [{"image": "a.nii.gz", "views": "sax"}]}, "has the key 'views', which is needed"),
    ],
)
def test_a_wrong_json_is_one_sentence(content, words, tmp_path, capsys):
    (tmp_path / "list.json").write_text(json.dumps(content))
    assert main(["prepare", str(tmp_path / "list.json"), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "list.json" in message


def test_a_tree_of_dicom_is_looked_at_and_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = ["--subjects", "3", "--frames", "4", "--size", "small"]
    assert main(["phantom", "--dataset", "kaggle", "--out", "kaggle", *size]) == 0
    for study in sorted(Path("kaggle").rglob("study")):
        if len(list(Path("scans").glob("*"))) < 2:
            shutil.copytree(study, Path("scans") / study.parent.name)
    assert main(["prepare", "--guess", "scans"]) == 0
    assert "studies: '{id}'" in Path("scans.yaml").read_text()
    assert main(["prepare", "scans.yaml", "--raw", "scans", "--out", "data/scans", "--size", "small"]) == 0
    assert main(["verify", "scans", "--root", "data/scans"]) == 0
    rows = _rows(tmp_path / "data/scans/cohort.csv")
    assert len(rows) == 2
    assert all("sax" in row["views"] and row["crop_centre"] in ("planes", "motion") for row in rows.values())
    # the same, where the folders of each view are named
    Path("named.yaml").write_text("name: named\nviews: {sax: '{id}/sax_*', lax_4c: '{id}/4ch_*'}\n")
    assert main(["prepare", "named.yaml", "--raw", "scans", "--out", "data/named", "--size", "small"]) == 0
    for study, row in _rows(tmp_path / "data/named/cohort.csv").items():
        assert row["n_slices"] == rows[study]["n_slices"]
        assert set(row["views"].split()) <= {"sax", "lax_4c"}
        assert "sax" in row["views"]


def test_png_of_a_long_axis(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    x, y = np.meshgrid(np.arange(90), np.arange(70), indexing="ij")
    for number in (1, 2, 3):
        label = (np.hypot(x - 45, y - 30) < 10 + number).astype(np.uint8) * 7
        for folder, pixels in (("images", 40 + 20 * label), ("masks", label)):
            Path(folder).mkdir(exist_ok=True)
            Image.fromarray(pixels.T).save(f"{folder}/c{number}.png")
    view = "{images: 'images/{id}.png', labels: 'masks/{id}.png', pixel_size: [1.5, 2.0]}"
    Path("four.yaml").write_text(f"name: four\nviews: {{lax_4c: {view}}}\nlabels: {{LA: 7}}\n")
    assert main(["prepare", "four.yaml", "--out", "data/four"]) == 0
    series = open_series(series_path(tmp_path / "data/four", "c2", "lax_4c"))
    assert series.shape == (135, 140)  # 90 x 1.5 mm and 70 x 2 mm at 1 mm
    label = open_series(series_path(tmp_path / "data/four", "c2", "lax_4c", "label")).read([0])[0]
    assert set(np.unique(label).tolist()) == {0, 4}
    pixels = (np.hypot(x - 45, y - 30) < 12).sum()
    assert (label == 4).sum() == pytest.approx(pixels * 1.5 * 2.0, rel=0.01)  # mm2


@pytest.fixture
def marked(tmp_path, monkeypatch):
    """Four-chamber cines of 3 frames, 90 x 70 pixels of 2 mm, with two landmarks at frames 1 and 3 counted from 1."""
    monkeypatch.chdir(tmp_path)
    rows = ["case,frame,name,column,row"]
    for number in range(1, 7):
        voxels = np.random.default_rng(number).integers(1, 200, (90, 70, 1, 3)).astype(np.int16)
        Path("scans").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 8.0, 1.0])), f"scans/h{number}.nii.gz")
        for frame in (1, 3):
            rows += [f"h{number},{frame},hinge_1,{30 + frame},20", f"h{number},{frame},hinge_2,50,{30 + frame}"]
    Path("points.csv").write_text("\n".join(rows) + "\n")
    about = "{file: points.csv, id: case, view: lax_4c, frame: frame, landmark: name, x: column, y: row}"
    splits = "splits: {train: 0.5, val: 0.25, test: 0.25}"
    Path("four.yaml").write_text(
        f"name: four\nviews: {{lax_4c: 'scans/{{id}}.nii.gz'}}\nlandmarks: {about}\nframes_from: 1\n{splits}\n"
    )
    return tmp_path


def test_landmarks_of_a_table_lie_where_they_were(marked):
    assert main(["prepare", "four.yaml", "--out", "data/four"]) == 0
    assert main(["verify", "four", "--root", "data/four"]) == 0
    with (marked / "data/four/landmarks.csv").open() as file:
        found = {(row["id"], row["frame"], row["landmark"]): row for row in csv.DictReader(file)}
    assert len(found) == 24
    one = found["h2", "2", "hinge_1"]  # frame 3 is the third
    # pixels of 2 mm become two of 1 mm, their centre between the two
    assert (float(one["x"]), float(one["y"])) == (2 * 33 + 0.5, 2 * 20 + 0.5)


def test_landmarks_of_frames_that_files_name(marked):
    """Of a file for each frame, the number is that of the file, from wherever and in whatever steps it counts."""
    for number in range(1, 7):
        for frame in (4, 1, 8, 3):
            voxels = np.full((30, 20, 1), 10 * frame, np.int16)
            nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 8.0, 1.0])), f"scans/h{number}_f{frame:02d}.nii.gz")
    text = Path("four.yaml").read_text()
    Path("four.yaml").write_text(text.replace("scans/{id}.nii.gz", "scans/{id}_f{frame}.nii.gz"))
    reader = described(Path("four.yaml"), None, [])
    cases = {case.id: case for case in reader.cases(Path())}
    raw = reader.read(cases["h2"])
    assert [int(frame.max()) for frame in raw.series["lax_4c"].frames] == [10, 30, 40, 80]
    assert sorted({(frame, x) for _, frame, name, x, _ in raw.landmarks if name == "hinge_1"}) == [(0, 31), (1, 33)]
    with Path("points.csv").open("a") as file:
        file.write("h2,2,hinge_1,3,4\n")
    cases = {case.id: case for case in reader.cases(Path())}
    with pytest.raises(CinemaError, match=r"of frame 2, which lax_4c does not have \(its files are 1, 3, 4, 8\)"):
        reader.read(cases["h2"])


def test_what_a_description_says_no_longer_is_gone(marked):
    assert main(["prepare", "four.yaml", "--out", "store"]) == 0
    assert Path("store/landmarks.csv").is_file()
    text = Path("four.yaml").read_text()
    Path("four.yaml").write_text("\n".join(line for line in text.splitlines() if "points.csv" not in line))
    assert main(["prepare", "four.yaml", "--out", "store"]) == 0
    assert not Path("store/landmarks.csv").exists()


def test_shards_of_two_descriptions_are_no_table(marked, capsys):
    """One part is of an earlier run, which divided people otherwise: joined, somebody would train and test."""
    command = ["prepare", "four.yaml", "--out", "store", "--shard"]
    assert main([*command, "1/2"]) == main([*command, "2/2"]) == 0
    before = _rows(Path("store/cohort.csv"))
    text = Path("four.yaml").read_text()
    lists = "splits: {train: [h1, h2], val: [h3], test: [h4, h5, h6]}"
    Path("four.yaml").write_text("\n".join(lists if line.startswith("splits") else line for line in text.splitlines()))
    assert main([*command, "1/2"]) == 0
    assert "parts of an earlier run" in capsys.readouterr().out
    assert _rows(Path("store/cohort.csv")) == before
    assert main([*command, "2/2"]) == 0
    split = {name: row["split"] for name, row in _rows(Path("store/cohort.csv")).items()}
    assert split == {"h1": "train", "h2": "train", "h3": "val", "h4": "test", "h5": "test", "h6": "test"}


def test_landmarks_of_nobody_and_studies_without_are_named(marked):
    text = Path("points.csv").read_text()
    Path("points.csv").write_text(text.replace("h5,", "5,").replace("h6,1", "h06,1").replace("h6,3", "h6,3"))
    reader = described(Path("four.yaml"), None, [])
    assert reader.notes(Path()) == ["points.csv: 2 studies have landmarks and no images, e.g. 5, h06"]
    warned = {case.id: case.warnings for case in reader.cases(Path()) if case.warnings}
    assert warned == {"h5": ("points.csv: no landmark of it",)}


@pytest.mark.parametrize(("cell", "failed"), [("", ["h3"]), (None, ["h3"]), ("A", [])])
def test_a_study_of_nobody_among_studies_of_somebody_fails(marked, cell, failed):
    """It may be another visit of a person who is in another split."""
    rows = [f"h{n},{'AAXBBC'[n - 1] if n != 3 else cell}" for n in range(1, 7) if n != 3 or cell is not None]
    Path("people.csv").write_text("\n".join(["case,subject", *rows]) + "\n")
    with Path("four.yaml").open("a") as file:
        file.write("tables: {people.csv: {id: case}}\n")
    cases = described(Path("four.yaml"), None, []).cases(Path())
    assert [case.id for case in cases if case.problem] == failed
    assert all("may be in another split: fill the cell" in (case.problem or "") for case in cases if case.id in failed)
    assert {case.id: case.subject for case in cases if case.id not in failed}["h2"] == "A"


def test_landmarks_of_no_known_frame_are_refused(marked, capsys):
    text = Path("four.yaml").read_text()
    Path("four.yaml").write_text(text.replace("frames_from: 1\n", ""))
    assert main(["prepare", "four.yaml", "--out", "data/four"]) == 1
    assert "give numbers and frames_from, or ED and ES" in (marked / "data/four/failures.csv").read_text()
    Path("four.yaml").write_text(text.replace("id: case", "id: name"))
    assert main(["prepare", "four.yaml", "--out", "data/other"]) == 2
    assert "points.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_landmarks_are_learnt_with_the_general_configuration(marked):
    assert main(["prepare", "four.yaml", "--out", "data/four"]) == 0
    train = [*TRAIN[2:-1], "--data.input_size={lax_4c: [64, 64]}", "--data.root=data/four", "--data.frames=all"]
    assert main(["fit", "--config", "landmarks.yaml", *train]) == 0
    assert main(["test", "--config", "landmarks.yaml", "--config", "laptop.yaml", "--data.frames=all"]) == 0
    assert (marked / "runs/landmarks+laptop/0/test/four/cases.csv").is_file()
