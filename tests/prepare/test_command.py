"""The runner on tiny ACDC folders: resuming, failing, sharding, stopping."""

import csv
import errno
import fcntl
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare import command, runner
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.scratch import scratch_of

GROUPS = ("DCM", "HCM", "NOR")


def _save(path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, np.diag([-1.25, -1.25, 10, 1])), path)


def _subject(
    root: Path, number: int, part: str = "training", ed: int = 1, es: int = 3, label: int | None = None
) -> Path:
    """One tiny ACDC subject: 24 x 20 x 3 voxels, 4 frames."""
    rng = np.random.default_rng(number)
    name = f"patient{number:03d}"
    folder = root / "database" / part / name
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(
        f"ED: {ed}\nES: {es}\nGroup: {GROUPS[number % 3]}\nHeight: 180.0\nNbFrame: 4\nWeight: 80.0"
    )
    frames = rng.integers(0, 900, (24, 20, 3, 4), dtype=np.int16)
    _save(folder / f"{name}_4d.nii.gz", frames)
    for frame, radius in ((ed, 6), (es, 4)):
        maps = np.zeros((24, 20, 3), np.uint8)
        maps[12 - radius : 12 + radius, 10 - radius : 10 + radius] = 2
        maps[13 - radius : 11 + radius, 11 - radius : 9 + radius] = 3
        maps[1:3, 1:radius] = 1
        if label is not None:
            maps[0, 0, 0] = label
        _save(folder / f"{name}_frame{frame:02d}.nii.gz", frames[..., min(frame, 4) - 1])
        _save(folder / f"{name}_frame{frame:02d}_gt.nii.gz", maps)
    return folder


def _acdc(root: Path, subjects: int) -> Path:
    for number in range(1, subjects + 1):
        _subject(root, number)
    return root


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _failures(out: Path) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["step"], row["reason"]) for row in _rows(out / "failures.csv")}


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_bytes_do_not_depend_on_workers_or_shards(tmp_path):
    raw = _acdc(tmp_path / "raw with blanks é", 5)
    assert prepare("acdc", raw, tmp_path / "one") == 0
    assert prepare("acdc", raw, tmp_path / "two", workers=2) == 0
    one = _content(tmp_path / "one")
    assert one == _content(tmp_path / "two")
    for index in (3, 1, 2):
        assert not (tmp_path / "three" / "cohort.csv").exists()
        assert prepare("acdc", raw, tmp_path / "three", shard=f"{index}/3") == 0
    three = _content(tmp_path / "three")
    assert {name: data for name, data in three.items() if "-of-" not in name} == one
    assert not list((tmp_path / "one").glob(".*"))


def test_second_run_does_only_what_changed(tmp_path, capsys):
    raw, out = _acdc(tmp_path, 3), tmp_path / "out"
    prepare("acdc", raw, out)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.b2nd")}
    assert prepare("acdc", raw, out) == 0
    assert "0 prepared, 3 already up to date, 0 failed" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())

    os.utime(raw / "database/training/patient002/patient002_4d.nii.gz", (1, 1))  # a source changed
    series_path(out, "patient003", "sax").write_bytes(b"cut")  # a result is damaged
    assert prepare("acdc", raw, out) == 0
    assert "2 prepared, 1 already up to date" in capsys.readouterr().out
    assert open_series(series_path(out, "patient003", "sax")).n_frames == 4


def test_a_change_of_the_list_alone_costs_no_preparation(tmp_path, capsys, monkeypatch):
    raw, out = _acdc(tmp_path, 2), tmp_path / "out"
    prepare("acdc", raw, out)
    reader = command.DATASETS["acdc"]
    cases = reader.cases(raw)
    other = [runner.CaseRef(c.id, c.subject, "val", c.sources, {"age": 50}, c.args) for c in cases]
    monkeypatch.setattr(type(reader), "cases", lambda self, raw: other)
    capsys.readouterr()
    assert prepare("acdc", raw, out) == 0
    assert "2 already up to date" in capsys.readouterr().out
    assert [(row["split"], row["age"]) for row in _rows(out / "cohort.csv")] == [("val", "50")] * 2


def test_a_store_of_phantoms_says_so_until_people_are_in_it(tmp_path):
    raw, out = _acdc(tmp_path / "raw", 2), tmp_path / "store"
    said = raw / "phantom.json"
    said.write_text('{"dataset": "acdc", "subjects": 2, "seed": 0}')
    assert prepare("acdc", raw, out) == 0
    assert (out / "phantom.json").read_text() == said.read_text()
    assert prepare("acdc", raw / "database", tmp_path / "inside") == 0  # a folder of them is of them too
    assert (tmp_path / "inside" / "phantom.json").exists()
    _subject(tmp_path / "people", 3)
    person = tmp_path / "people" / "database" / "training" / "patient003"
    (raw / "database" / "training" / "patient003").symlink_to(person)
    said.rename(raw / "database" / "training" / "patient001" / "phantom.json")
    assert prepare("acdc", raw, out) == 0
    assert not (out / "phantom.json").exists()
    said.write_text('{"seed": 0}')  # of a store that lies around
    assert prepare("acdc", raw, out) == 0
    assert not (out / "phantom.json").exists()


def test_no_phantoms_are_made_in_a_store_that_was_prepared_of_some(tmp_path, capsys):
    raw, store = _acdc(tmp_path / "raw", 2), tmp_path / "store"
    (raw / "phantom.json").write_text('{"dataset": "acdc", "subjects": 2}')
    assert prepare("acdc", raw, store) == 0
    assert main(["phantom", "--dataset", "acdc", "--subjects", "2", "--out", str(store), "--overwrite", "true"]) == 2
    assert "`cinema prepare` prepared" in capsys.readouterr().err
    assert (store / "cohort.csv").is_file()
    assert not (store / "database").exists()


def test_people_among_or_below_phantoms_are_people(tmp_path):
    raw, store = _acdc(tmp_path / "raw", 2), tmp_path / "store"
    (raw / "phantom.json").write_text('{"dataset": "acdc", "subjects": 2}')
    assert prepare("acdc", raw, store) == 0
    assert (store / "phantom.json").exists()
    assert prepare("acdc", _acdc(store / "raw", 2), tmp_path / "below") == 0  # people whose folder lies in such a store
    assert not (tmp_path / "below" / "phantom.json").exists()
    _subject(raw, 3)  # one more than were made
    assert prepare("acdc", raw, store) == 0
    assert not (store / "phantom.json").exists()


def test_bad_subjects_fail_alone(tmp_path):
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    truncated = _subject(raw, 10) / "patient010_4d.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:3000])
    _subject(raw, 11, label=7)
    _subject(raw, 12, ed=2, es=2)
    empty = _subject(raw, 13) / "patient013_frame01_gt.nii.gz"
    _save(empty, np.zeros((24, 20, 3), np.uint8))
    (_subject(raw, 14) / "Info.cfg").write_text("ED: 1\nGroup: DCM\n")
    (_subject(raw, 15) / "patient015_frame03_gt.nii.gz").unlink()
    _subject(raw, 16, es=9)
    _save(_subject(raw, 17) / "patient017_frame01_gt.nii.gz", np.zeros((9, 9, 3), np.uint8))
    assert prepare("acdc", raw, out) == 1
    failures = _failures(out)
    expected = {
        "patient010": ("read", "half downloaded: get it again"),
        "patient011": ("labels", "holds 7; known are 0, 1, 2, 3: mend the map"),
        "patient012": ("read", "ED and ES are the same frame (1, counted from 0): mend the list"),
        "patient013": ("crop", "no LV blood pool to crop around: label it"),
        "patient014": ("list", "lacks the line 'ES: ...'"),
        "patient015": ("read", "patient015_frame03_gt.nii.gz is missing: put it there"),
        "patient016": ("read", "ES is frame 8"),
        "patient017": ("read", "3: resample it onto that image's voxels"),
    }
    assert failures.keys() == expected.keys()
    for name, (step, reason) in expected.items():
        assert failures[name][0] == step
        assert reason in failures[name][1]
    assert [row["id"] for row in _rows(out / "cohort.csv")] == ["patient001"]
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"patient001"}


def test_an_empty_ventricle_at_es_is_a_warning(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    maps = np.zeros((24, 20, 3), np.uint8)
    maps[5, 5, 1] = 2
    _save(_subject(raw, 1) / "patient001_frame03_gt.nii.gz", maps)
    assert prepare("acdc", raw, out) == 0
    assert "no LV blood pool" in _rows(out / "warnings.csv")[0]["reason"]
    assert float(_rows(out / "cohort.csv")[0]["lv_ef"]) == 100


def test_strict_stops_at_the_first_failure(tmp_path):
    raw = _acdc(tmp_path, 1)
    _subject(raw, 2, label=9)
    _subject(raw, 3)
    with pytest.raises(CinemaError, match="patient002 failed at step 'labels'"):
        prepare("acdc", raw, tmp_path / "out", strict=True)
    assert list(_failures(tmp_path / "out")) == ["patient002"]
    assert not (tmp_path / "out" / "patient003").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_between_studies_and_the_next_run_goes_on(tmp_path, monkeypatch, capsys, number):
    raw, out = _acdc(tmp_path, 3), tmp_path / "out"
    original = runner.run_one

    def signalled(plan, case):
        if case.id == "patient002":
            os.kill(os.getpid(), number)
        return original(plan, case)

    monkeypatch.setattr(runner, "run_one", signalled)
    assert prepare("acdc", raw, out) == 128 + number
    assert "2 of 3 studies" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["patient001", "patient002"]
    monkeypatch.undo()
    assert prepare("acdc", raw, out) == 0
    assert "1 prepared, 2 already up to date" in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_study(tmp_path, monkeypatch):
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    prepare("acdc", raw, out)
    before = _content(out / "patient001")
    os.utime(raw / "database/training/patient001/Info.cfg", (5, 5))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cinema_lightning.prepare.steps.write_series", full)
    assert prepare("acdc", raw, out) == 1
    assert _failures(out)["patient001"] == ("write", "OSError: [Errno 28] No space left on device")
    assert _content(out / "patient001") == before
    assert not list(out.glob(".*"))


def test_a_failed_move_puts_the_old_study_back(tmp_path, monkeypatch):
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    prepare("acdc", raw, out)
    before = _content(out / "patient001")
    os.utime(raw / "database/training/patient001/Info.cfg", (5, 5))
    rename = Path.rename

    def refuse(self, target):
        if self.name == "patient001" and self.parent != out:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert prepare("acdc", raw, out) == 1
    assert _failures(out)["patient001"] == ("write", "OSError: [Errno 5] Input/output error")
    assert _content(out / "patient001") == before
    assert not list(out.glob(".*"))


def test_more_shards_than_subjects(tmp_path):
    raw = _acdc(tmp_path, 1)
    assert prepare("acdc", raw, tmp_path / "out", shard="2/2") == 0
    assert prepare("acdc", raw, tmp_path / "out", shard="1/2") == 0
    assert [row["id"] for row in _rows(tmp_path / "out" / "cohort.csv")] == ["patient001"]


def test_one_run_at_a_time(tmp_path):
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    with scratch_of(out, ""), pytest.raises(CinemaError, match="Another run prepares"):
        prepare("acdc", raw, out)
    assert prepare("acdc", raw, out) == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_run(number, tmp_path, monkeypatch):
    def flock(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    with pytest.warns(UserWarning, match="cannot be locked on this file system"):
        assert prepare("acdc", raw, out) == 0
    assert [row["id"] for row in _rows(out / "cohort.csv")] == ["patient001"]
    assert not (out / ".prepare").exists()


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    raw, out = _acdc(tmp_path, 1), tmp_path / "out"
    (out / ".prepare" / "all" / "patient001").mkdir(parents=True)
    (out / ".prepare" / "all" / "patient001" / "sax.b2nd").write_bytes(b"half")
    assert prepare("acdc", raw, out) == 0
    assert not (out / ".prepare").exists()


def test_wrong_arguments(tmp_path):
    raw = _acdc(tmp_path, 1)
    with pytest.raises(CinemaError, match=r"looked for database/\{training,testing\}"):
        prepare("acdc", tmp_path / "database" / "training" / "patient001", tmp_path / "out")
    with pytest.raises(CinemaError, match="is not a folder"):
        prepare("acdc", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(CinemaError, match=r"no dataset called 'adcd'; there are acdc, "):
        prepare("adcd", raw, tmp_path / "out")
    with pytest.raises(CinemaError, match="such as 3/8"):
        prepare("acdc", raw, tmp_path / "out", shard="3/2")
    with pytest.raises(CinemaError, match="1 or more"):
        prepare("acdc", raw, tmp_path / "out", workers=0)
    with pytest.raises(CinemaError, match="no outcome table"):
        prepare("acdc", raw, tmp_path / "out", outcomes=tmp_path / "x.csv")


TENTH = """
import os
import signal
from pathlib import Path

import numpy as np

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset


@dataset
class Tenth(Dataset):
    name = "tenth"
    display = "Tenth"
    source = "made up"
    looked_for = "*.txt"
    views = ("sax",)
    crop = "centre"
    splits = "none"

    def cases(self, raw):
        return [CaseRef(path.stem, path.stem, "", (path,)) for path in sorted(Path(raw).glob("*.txt"))]

    def read(self, case):
        if case.sources[0].read_text() == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return RawCase({"sax": RawSeries(np.arange(2 * 4 * 4 * 2).reshape(2, 4, 4, 2), np.diag([1, 1, 10, 1]))})
"""


def test_a_tenth_dataset_is_one_file_and_a_killed_worker_fails_its_study_only(tmp_path, monkeypatch):
    (tmp_path / "tenth_dataset.py").write_text(TENTH)
    monkeypatch.syspath_prepend(str(tmp_path))
    import tenth_dataset  # noqa: F401

    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for number in range(6):
        (raw / f"s{number}.txt").write_text("kill" if number == 2 else "fine")
    try:
        assert prepare("tenth", raw, out, workers=2) == 1
    finally:
        command.DATASETS._items.pop("tenth")
    assert list(_failures(out)) == ["s2"]
    assert _failures(out)["s2"][0] == "worker"
    assert [row["id"] for row in _rows(out / "cohort.csv")] == ["s0", "s1", "s3", "s4", "s5"]
    assert not list(out.glob(".*"))


def test_parts_of_an_older_run_are_not_mixed_in(tmp_path):
    raw, out = _acdc(tmp_path, 2), tmp_path / "out"
    prepare("acdc", raw, out, shard="1/2")
    shutil.copy(out / "cohort.1-of-2.csv", out / "cohort.2-of-2.csv")
    shutil.copy(out / "failures.1-of-2.csv", out / "failures.2-of-2.csv")
    shutil.copy(out / "warnings.1-of-2.csv", out / "warnings.2-of-2.csv")
    with pytest.raises(CinemaError, match="'patient001' twice"):
        prepare("acdc", raw, out, shard="1/2")
