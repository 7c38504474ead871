"""Bad descriptions, tables and folders: one sentence with file, key or row, and the remedy."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from cinema_lightning.cli import main
from cinema_lightning.datasets.described.description import SplitRule
from cinema_lightning.datasets.described.parse import parse
from cinema_lightning.datasets.described.patterns import Pattern
from cinema_lightning.datasets.described.people import read_people
from cinema_lightning.datasets.described.splits import assign
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare

PLAIN = {"name": "mine", "views": {"sax": {"images": "{id}.nii.gz", "labels": "{id}_gt.nii.gz"}}, "labels": {"LV": 1}}


def _columns(**columns):
    return {"tables": {"p.csv": {"id": "a", "columns": columns}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name is missing"),
        ({"name": "acdc"}, "known already"),
        ({"name": "a/b"}, "it names folders"),
        ({"labls": {}}, "unknown key 'labls'; did you mean labels"),
        ({"views": {"4ch": "{id}.nii.gz"}}, "unknown key '4ch'"),
        ({"views": {"sax": {"labels": "{id}.nii.gz"}}}, "views.sax lacks the key images"),
        ({"views": {"sax": "scan.nii.gz"}}, "neither {id} nor {subject}"),
        ({"views": {"sax": "{id}_{time}.nii.gz"}}, "{time} means nothing"),
        ({"views": {"sax": "{id}_{phase}_{frame}.nii.gz"}}, "both {phase} and {frame}"),
        ({"views": {"sax": "../{id}.nii.gz"}}, "relative to the raw folder"),
        ({"views": {"sax": {"images": "{id}.nii.gz", "labels": "{subject}/{id}.nii.gz"}}}, "name studies in two ways"),
        ({"views": {"sax": "{id}.png"}}, "PNG files"),
        ({"views": {"lax_4c": "{id}.png"}}, "needs pixel_size"),
        ({"views": {}}, "needs one of views"),
        ({"studies": "{id}"}, "needs one of views"),
        ({"labels": {}}, "what the codes in the label maps of sax mean"),
        ({"labels": {"LV": "one"}}, "labels.LV is 'one'"),
        ({"labels": {"LV": 1, "RV": 1}}, "give the code 1 to both LV blood pool and RV blood pool"),
        ({"labels": {"LV": 1, "lv cavity": 2}}, "is LV blood pool, which is there already"),
        ({"labels": {"RV": 1}, "phases": "by volume"}, "needs the LV among the labels"),
        (_columns(ed_frame="ed") | {"phases": "by volume"}, "phases are by volume, and tables.p.csv names ED and ES"),
        (_columns(x={"column": "b", "factor": 2, "values": {"w": "F"}}), "p.csv.columns.x has both factor"),
        ({"splits": {"column": "set", "seed": 1}}, "splits.seed says nothing beside column: leave it out"),
        ({"splits": {"train": ["a"], "test": ["b"], "seed": 1}}, "splits.seed says nothing beside train, test"),
        ({"splits": {"train": 0.8, "test": 0.2, "fold": 1}}, "splits.fold says nothing beside train, test"),
        ({"splits": {"folds": 5, "values": {"a": "train"}}}, "splits.values says nothing beside folds"),
        ({"frames_from": 2}, "frames_from is 2; it is 0 or 1"),
        ({"tables": {"p.csv": {"columns": {}}}}, "tables.p.csv needs one of the keys id and subject"),
        ({"tables": {"p.csv": {"id": "a", "columns": {"age": {"factor": 2}}}}}, "columns.age lacks the key column"),
        ({"splits": {"train": 0.5, "test": 0.2}}, "shares that make 0.7"),
        ({"splits": {"train": 0.5, "test": ["P1"]}}, "mix lists and shares"),
        ({"splits": {"folds": 2}}, "2 folds"),
        ({"splits": {"folds": 5, "column": "set"}}, "need one of"),
        ({"splits": {"values": {"Tr": "train"}}}, "no pattern has it"),
        ({"splits": {"values": {"Tr": "training"}}}, "is one of train, val, test"),
        ({"spacing": {"sax": [1, 1]}}, "spacing.sax is [1, 1]; it has to be 3 numbers"),
        ({"spacing": {"lax_4c": [1, 1]}}, "unknown key 'lax_4c'"),
        ({"spacing": {"sax": [1, 1, float("inf")]}}, "spacing.sax is [1, 1, inf]"),
        ({"splits": {"train": float("nan"), "val": 0.5, "test": 0.5}}, "mix lists and shares"),
        ({"labels": {"LV": -1}}, "labels.LV is -1; codes are 0 to 32767"),
        ({"labels": {"LV": 70000}}, "labels.LV is 70000; codes are 0 to 32767"),  # 4464 in 16 bits
        ({"phases": {"ED": "frame1", "ES": ["es", "Frame1"]}}, "call both ED and ES 'frame1'"),
        ({"views": {"sax": {"images": "{id}.nii.gz", "pixel_size": [1, 1]}}}, "pixel_size is for PNG"),
        (_columns(height={"column": "cm", "factor": 0}), "factor is 0; it has to be a number other than 0"),
        (_columns(sex={"column": "g", "values": {"w": "woman"}}), "columns.sex.values.w is 'woman'; it is one of M, F"),
        ({"crop": "label box"}, "crop is 'label box'; it is one of auto, centre, none"),
    ],
)
def test_a_wrong_key_is_named_with_the_file_and_the_remedy(change, words):
    content = {key: value for key, value in {**PLAIN, **change}.items() if value is not None}
    with pytest.raises(CinemaError) as error:
        parse(content, "mine.yaml")
    assert str(error.value).startswith("mine.yaml: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_structures_keep_the_codes_of_the_published_networks():
    found = parse({**PLAIN, "labels": {"lv": 10, "Myo": [20, 21], "rvc": 30, "left atrium": 40}}, "mine.yaml")
    assert found.codes == {"background": 0, "LV blood pool": 3, "myocardium": 2, "RV blood pool": 1, "left atrium": 4}


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("scans/{id}/cine.nii.gz", "scans/P1/cine.nii.gz", ("P1", "P1", "", None)),
        ("{id}_{phase}.nii.gz", "P_1_ed.nii.gz", ("P_1", "P_1", "ED", None)),
        ("{id}_{phase}.nii.gz", "P1_end_systole.nii.gz", ("P1", "P1", "ES", None)),
        ("{id}/{id}_frame{frame}.nii.gz", "A/A_frame007.nii.gz", ("A", "A", "", 7)),
        ("{id}/{id}_frame{frame}.nii.gz", "A/B_frame007.nii.gz", None),
        ("sub-{subject}/ses-{id}/*.nii.gz", "sub-01/ses-2/x.nii.gz", ("01", "01_2", "", None)),
        ("**/{id}.nii.gz", "a/b/P1.nii.gz", ("P1", "P1", "", None)),
        ("**/{id}.nii.gz", "P1.nii.gz", ("P1", "P1", "", None)),
        ("a.b/{id}.nii", "aXb/P1.nii", None),
        ("{subject}/{id}.nii", "1/21.nii", ("1", "1_21", "", None)),
        ("{subject}/{id}.nii", "P1/P1_b.nii", ("P1", "P1_b", "", None)),
    ],
)
def test_patterns(tmp_path, pattern, path, found):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (tmp_path / "._P1.nii.gz").touch()  # left by a Mac
    matches = [(one.subject, one.id, one.phase, one.frame) for one in Pattern.of(pattern).find(tmp_path)]
    assert matches == ([found] if found else [])


def test_words_of_phases_are_those_of_the_description(tmp_path):
    content = {**PLAIN, "phases": {"ED": ["dia", "frame01"], "ES": "sys"}, "views": {"sax": "{id}_{phase}.nii"}}
    pattern = parse(content, "mine.yaml").views["sax"].images[""]
    for name in ("P1_DIA.nii", "P2_frame01.nii", "P1_sys.nii", "P1_ED.nii"):
        (tmp_path / name).touch()
    assert [(one.id, one.phase) for one in pattern.find(tmp_path)] == [("P1", "ED"), ("P1", "ES"), ("P2", "ED")]


PEOPLE = {f"P{n}": f"P{n}" for n in range(10)}


def test_shares_are_by_person_and_do_not_depend_on_the_order():
    people = {f"{person}_{visit}": person for person in PEOPLE for visit in (1, 2)}
    rule = SplitRule(shares={"train": 0.6, "val": 0.2, "test": 0.2}, seed=1)
    found = assign(rule, people, {}, "mine.yaml")
    assert found == assign(rule, dict(reversed(people.items())), {}, "mine.yaml")
    assert [list(found.values()).count(split) for split in ("train", "val", "test")] == [12, 4, 4]
    assert all(found[f"{person}_1"] == found[f"{person}_2"] for person in PEOPLE)
    assert found != assign(SplitRule(shares=rule.shares, seed=2), people, {}, "mine.yaml")


def test_each_person_is_tested_in_one_fold():
    tested = [
        name
        for fold in range(5)
        for name, split in assign(SplitRule(folds=5, fold=fold), PEOPLE, {}, "x").items()
        if split == "test"
    ]
    assert sorted(tested) == sorted(PEOPLE)


@pytest.mark.parametrize(
    ("rule", "words", "sentence"),
    [
        (SplitRule(lists={"train": ("P1", "Q")}), {}, "lists 'Q', which is no study"),
        (SplitRule(lists={"train": ("P1",), "test": ("P1",)}), {}, "list 'P1' in train and in test"),
        (SplitRule(column="set"), {"P1": "dev"}, "'dev' of P1 is no split"),
        (SplitRule(column="set"), {"a1": "train", "a2": "test"}, "subject 'a' into train"),
    ],
)
def test_splits_that_contradict_themselves_are_refused(rule, words, sentence):
    people = {"a1": "a", "a2": "a"} if "a1" in words else PEOPLE
    with pytest.raises(CinemaError, match=r"^mine\.yaml: ") as error:
        assign(rule, people, words, "mine.yaml")
    assert sentence in str(error.value)


def _table(tmp_path: Path, text: str, **about):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    content = {**PLAIN, "tables": {"p.csv": {"id": "patient", **about}}}
    return read_people(tmp_path, parse(content, "mine.yaml").tables[0], measured=("lv_edv",))


def test_cells_of_a_table(tmp_path):
    text = "patient;Alter;sex;size;lvef;code;group;ward\nP1;61,0;f;172;55,5;007;1;NA\nP2;;Male;;;012;2;B\n"
    columns = {
        "age": "Alter",
        "height": {"column": "size", "factor": 0.01},
        "pathology": {"column": "group", "values": {1: "NOR", 2: "DCM"}},
    }
    rows = _table(tmp_path, text, columns=columns).rows
    assert rows["P1"] == {
        "age": 61, "height": 1.72, "pathology": "NOR", "sex": "F", "lvef": 55.5, "code": "007", "ward": "NA",
    }  # fmt: skip
    assert rows["P2"] == {
        "age": None, "height": None, "pathology": "DCM", "sex": "M", "lvef": None, "code": "012", "ward": "B",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "about", "words"),
    [
        ("patient;age\nP1;5\nP1;6\n", {}, "row 3: lists 'P1' a second time (first in row 2)"),
        ("patient;age\n;5\n", {}, "row 2: column 'patient' is empty"),
        ("person;age\nP1;5\n", {}, "lacks the column 'patient'"),
        ("patient;age\nP1;old\n", {}, "row 2: 'old' is not a number, which age has to be"),
        ("patient;sex\nP1;w\n", {}, "'w' is neither M nor F"),
        ("patient;sex\nP1;missing\n", {}, "'missing' is neither M nor F"),
        ("patient;views\nP1;x\n", {}, "a column 'views', a name that the cohort table needs"),
        ("patient;lv_edv\nP1;120\n", {}, "lv_edv, which is measured from the label maps"),
        ("patient;a;b\nP1;1;2\n", {"columns": {"b": "a"}}, "a column 'b', a name"),
        ("patient;x\nP1;1,234\n", {}, "can be 1234 or 1.234"),
        ("patient;g\nP1;3\n", {"columns": {"pathology": {"column": "g", "values": {1: "NOR"}}}}, "row 2: '3' is not"),
    ],
)
def test_a_wrong_table_is_named_with_row_and_column(tmp_path, text, about, words):
    with pytest.raises(CinemaError) as error:
        _table(tmp_path, text, **about)
    assert "p.csv" in str(error.value)
    assert words in str(error.value)


@pytest.fixture
def place(tmp_path, own):
    return own.make(tmp_path, subjects=3)


def _mend(place: Path, **changes) -> Path:
    path = place / "mine.yaml"
    content = {**yaml.safe_load(path.read_text()), "splits": {"train": 1.0}, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def _failures(place: Path, path: Path) -> str:
    assert prepare(str(path), place, place / "store", size="small") == 1
    return (place / "store/failures.csv").read_text()


def test_patterns_that_match_nothing_say_what_there_is(place, capsys):
    path = _mend(place, views={"sax": "images/{id}.nii.gz"})
    assert main(["prepare", str(path), "--out", str(place / "store")]) == 2  # --raw: the description's folder
    message = capsys.readouterr().err
    assert "views.sax.images 'images/{id}.nii.gz' matches nothing" in message
    assert "masks/P01_ED.nii.gz" in message
    assert not (place / "store").exists()


def test_two_files_for_one_frame_fail_the_study(place, own):
    path = _mend(place, views={"sax": {"images": "scans/{id}/*.nii.gz", "labels": "masks/{id}_{phase}.nii.gz"}})
    own.save(place / "scans/P02/localiser.nii.gz", np.ones((*own.SIZE, 4), np.float32))
    failures = _failures(place, path)
    assert failures.count("\n") == 2
    assert "are both its sax image: make the pattern narrower" in failures


def test_a_label_without_an_image_an_unknown_code_and_a_wrong_frame_fail_their_study(place, own):
    own.save(place / "masks/P09_ED.nii.gz", own.label_map(12))
    strange = own.label_map(12)
    strange[0, 0, 0] = 99
    own.save(place / "masks/P02_ED.nii.gz", strange)
    text = (place / "people.csv").read_text().replace(";2;4\n", ";2;9\n", 1)
    (place / "people.csv").write_text(text)
    failures = _failures(place, _mend(place))
    assert "ES is frame 8, counted from 0, but the frames are 0 to 3: mend the list that says so; in a" in failures
    assert "holds 99; known are 0, 10, 20, 30: mend the map, or in a description" in failures
    assert "P09_ED.nii.gz is there, but no image that it belongs to" in failures


def test_where_frames_are_counted_from_is_never_assumed(place):
    assert "add frames_from: 0 or frames_from: 1" in _failures(place, _mend(place, frames_from=None))


def test_label_maps_by_number_that_a_table_contradicts_are_refused(place):
    for path in list((place / "masks").iterdir()):
        path.rename(path.with_name(path.name.replace("_ED", "_f01").replace("_ES", "_f03")))  # from 0
    views = {"sax": {"images": "scans/{id}/cine.nii.gz", "labels": "masks/{id}_f{frame}.nii.gz"}}
    failures = _failures(place, _mend(place, views=views))
    assert "do both count from the same number" in failures
    table = {"people.csv": {"id": "patient", "columns": {"ed_frame": "ed", "es_frame": "es"}, "frames_from": 1}}
    path = _mend(place, views=views, frames_from=0, tables=table)
    assert prepare(str(path), place, place / "other", size="small") == 0


def test_classes_of_a_column_that_is_not_there_are_refused(place, capsys):
    path = _mend(place, classes={"diagnos": ["NOR", "DCM"]})
    assert main(["prepare", str(path), "--out", str(place / "store")]) == 2
    message = capsys.readouterr().err
    assert "classes.diagnos is of no column that the tables give (age, diagnosis," in message
    assert not (place / "store").exists()


def test_studies_of_no_split_are_said(place):
    path = _mend(place, splits={"train": ["P01"], "val": ["P02"]})
    assert prepare(str(path), place, place / "store", size="small") == 0
    assert (
        "1 study is in no split, so that nobody trains or tests on it: P03"
        in (place / "store/warnings.csv").read_text()
    )


def test_a_key_that_stands_twice_is_refused(place, capsys):
    path = place / "mine.yaml"
    path.write_text(path.read_text() + "labels: {LV: 1}\n")
    assert main(["prepare", str(path), "--out", str(place / "store")]) == 2
    assert "mine.yaml, line 11: says 'labels' a second time (first in line 6); keep one" in capsys.readouterr().err
    path.write_text("name: x\nlabels: {LV: 10, LV: 20}\n")
    assert main(["prepare", str(path), "--out", str(place / "store")]) == 2
    assert "line 2: says 'LV' a second time" in capsys.readouterr().err


def test_a_table_of_other_people_is_refused_and_further_rows_are_said(place, capsys):
    path = place / "people.csv"
    text = path.read_text()
    path.write_text(text + "X7;50;f;50,0;NOR;2;4\n")
    assert prepare(str(_mend(place)), place, place / "store", size="small") == 0
    assert "people.csv: 1 row has no images, e.g. X7" in (place / "store/warnings.csv").read_text()
    path.write_text(text.replace("P0", "Q0"))
    assert main(["prepare", str(place / "mine.yaml"), "--out", str(place / "else")]) == 2
    message = capsys.readouterr().err
    assert "no cell of column 'patient' (Q01, Q02, Q03) is the id of a study of the images (P01, P02, P03)" in message


def test_a_store_is_of_one_dataset(place, capsys):
    assert prepare(str(_mend(place)), place, place / "store", size="small") == 0
    assert main(["prepare", str(_mend(place, name="yours")), "--out", str(place / "store"), "--size", "small"]) == 2
    assert "holds 'mine', not 'yours'" in capsys.readouterr().err


def test_a_crop_never_cuts_what_is_labelled(place, own):
    far = own.label_map(12)
    far[0:2, 0:2] = 30
    own.save(place / "masks/P02_ED.nii.gz", far)
    path = _mend(place, spacing={"sax": [0.4, 0.4, 10]})  # the crop of 192 pixels is 77 mm
    failures = _failures(place, path)
    assert "labelled voxels off; say crop: none" in failures


def test_a_still_image_is_not_cropped(place, own):
    for number in (1, 2, 3):
        own.save(place / f"scans/P{number:02d}/still.nii.gz", own.label_map(12).astype(np.float32))
    views = {"sax": {"images": "scans/{id}/still.nii.gz", "labels": "masks/{id}_ED.nii.gz"}}
    assert prepare(str(_mend(place, views=views, tables=None)), place, place / "store", size="small") == 0
    assert ",none," in (place / "store/cohort.csv").read_text()
    assert main(["verify", "mine", "--root", str(place / "store")]) == 0


def test_only_what_is_labelled_is_measured(place, own):
    for path in list((place / "masks").iterdir()):
        import nibabel as nib

        label = np.asarray(nib.load(path).dataobj)
        own.save(path, np.where(label == 10, 10, 0).astype(np.int16))
    assert prepare(str(_mend(place, labels={"LV": 10})), place, place / "store", size="small") == 0
    header = (place / "store/cohort.csv").read_text().splitlines()[0].split(",")
    assert "lv_edv" in header
    assert not {"rv_edv", "rv_ef", "lv_mass"} & set(header)


def test_every_description_of_the_docs_is_one():
    text = (Path(__file__).parents[3] / "docs/own_data.md").read_text(encoding="utf-8")
    found = [parse(yaml.safe_load(block), "own_data.md") for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert [one.name for one in found] == ["mine", "scans"]
    assert found[0].codes["left atrium"] == 4
    others = re.findall(r"^# (splits: .*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(others) == 4
    for line in others:
        pattern = {"images": "{split}/{id}.nii.gz"}
        parse({"name": "x", "views": {"sax": pattern}, **yaml.safe_load(line)}, "own_data.md")


def test_the_readmes_description_is_the_one_that_is_tested(own):
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(name: mine.*?)```", text, re.DOTALL)
    assert {**yaml.safe_load(block), "splits": None} == {**yaml.safe_load(own.DESCRIPTION), "splits": None}
