"""Cohorts made on demand: which folder is used, what is made in it, and what happens when that goes wrong."""

import dataclasses
import logging
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.cli import main
from cinema_lightning.configs import packaged_folder, read_config
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom import overlay
from cinema_lightning.phantom.command import phantom
from cinema_lightning.phantom.making import write_settings
from cinema_lightning.phantom.overlay import PLAIN, ROOT, PhantomCohort, data_folder, ensure_cohort
from cinema_lightning.phantom.raw.base import LAYOUTS
from cinema_lightning.prepare.verify import verify
from cinema_lightning.training import CinemaCLI

SMALL = PhantomCohort(subjects=2, frames=3, workers=1)


@pytest.mark.parametrize("named", [ROOT, "phantom/", "here/phantoms"])
def test_phantoms_are_made_where_nothing_is_named(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = dataclasses.replace(SMALL, root="here/phantoms")
    assert data_folder(named, cohort) == Path("here/phantoms/plain")
    assert len(_table(tmp_path / "here/phantoms/plain")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("dataset", [None, "acdc"])
def test_what_is_named_is_taken_as_it_is_and_never_made(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CinemaError, match=r"no data folder cohrt, .* --phantom\.root cohrt"):
        data_folder("cohrt", SMALL, dataset)
    for name in ("empty", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "cohort.csv").write_text("id\n")
    (tmp_path / "store" / "phantom.json").write_text("{}")  # as `cinema phantom --out store` leaves it
    for name in ("empty", "store"):
        before = _times(tmp_path / name)
        assert data_folder(name, SMALL, dataset) == Path(name)
        assert _times(tmp_path / name) == before
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "store"}


@pytest.mark.parametrize(
    ("options", "own", "taken"),
    [
        ([], "cohort", "cohort"),
        ([], "phantom/plain", "phantom/plain"),  # made anew where it is gone
        (["--data.root=other"], "cohort", "other"),
        (["--phantom.root=hearts"], "cohort", "hearts/plain"),
    ],
)
def test_a_run_is_tested_on_its_own_data_where_nothing_is_named(
    options, own, taken, train, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    for folder in ("cohort", "other"):
        Path(folder).mkdir()
    checkpoint = train(tmp_path / "runs/seg+phantom/0/checkpoints/best.ckpt", "Segmentation")
    (checkpoint.parents[1] / "config.yaml").write_text(f"data: {{init_args: {{root: {own}}}}}\n")
    roots = []

    def stop(cli):
        roots.append(cli.config["test"].data.init_args.root)
        raise CinemaError("enough")

    monkeypatch.setattr(CinemaCLI, "instantiate_classes", stop)
    small = ["--phantom.subjects=2", "--phantom.frames=3", "--phantom.workers=1"]
    with caplog.at_level(logging.INFO):
        assert main(["test", "--config", "seg.yaml", "--config", "phantom.yaml", *small, *options]) == 2
    assert roots == [taken]
    told = f"The data are those in {taken}; the run runs/seg+phantom/0 was trained on {own}."
    assert (told in caplog.text) == (taken != own)


def test_a_network_is_tested_on_phantoms_of_another_dataset_than_its_runs(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = train(tmp_path / "runs/seg/0/checkpoints/best.ckpt", "Segmentation")
    (checkpoint.parents[1] / "config.yaml").write_text("data: {init_args: {root: phantom/acdc, dataset: acdc}}\n")
    for dataset in ("acdc", "mnms2"):
        (tmp_path / "phantom" / dataset).mkdir(parents=True)
        (tmp_path / "phantom" / dataset / "cohort.csv").write_text("id\n")
        write_settings(tmp_path / "phantom" / dataset, {"dataset": dataset})
    roots = []

    def stop(cli):
        roots.append(cli.config["test"].data.init_args.root)
        raise CinemaError("enough")

    monkeypatch.setattr(CinemaCLI, "instantiate_classes", stop)
    for config in ("acdc_seg.yaml", "mnms2_seg.yaml"):
        assert main(["test", "--config", config, "--config", "phantom.yaml", "--ckpt_path", str(checkpoint)]) == 2
    assert roots == ["phantom/acdc", "phantom/mnms2"]


def test_the_making_of_a_runs_own_phantoms_goes_on_after_a_stop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(overlay, "ensure_cohort", lambda root, cohort, dataset: asked.append((root, dataset)))
    for dataset, name in ((None, PLAIN), ("acdc", "acdc")):
        folder = Path(ROOT) / name
        folder.mkdir(parents=True)
        assert data_folder(str(folder), SMALL, dataset) == folder  # of the user
        write_settings(folder, {})
        data_folder(str(folder), SMALL, dataset)
        (folder / "cohort.csv").write_text("id\n")  # it is written last
        assert data_folder(str(folder), SMALL, dataset) == folder
    assert asked == [(Path(ROOT), None), (Path(ROOT), "acdc")]


def test_the_overlay_names_nothing():
    content = read_config(packaged_folder() / "phantom.yaml")
    assert content["data"]["init_args"]["root"] == content["phantom"]["root"] == ROOT


def _table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "cohort.csv", dtype={"id": str})


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dataset", [None, "phantom"])
def test_without_a_dataset_a_plain_store_is_made_once(dataset, tmp_path):
    folder = ensure_cohort(tmp_path / "new", SMALL, dataset)
    assert folder == tmp_path / "new" / "plain"
    assert len(_table(folder)) == 2
    before = _times(folder)
    assert ensure_cohort(tmp_path / "new", SMALL, dataset) == folder
    assert _times(folder) == before


def test_a_dataset_gets_a_prepared_store_of_its_own(tmp_path):
    folder = ensure_cohort(tmp_path, SMALL, "acdc")
    assert folder == tmp_path / "acdc"
    assert verify("acdc", folder) == 0
    series = open_series(series_path(folder, "patient001", "sax"))
    assert max(series.shape[:2]) <= 64
    assert series.info.spacing == (3.0, 3.0, 10.0)
    assert set(_table(folder)["pathology"]) <= set(DATASETS["acdc"].classes["pathology"])
    # The raw files are gone, and a plain store lives beside it.
    assert [path.name for path in tmp_path.iterdir() if path.name != "acdc"] == [".acdc.lock"]
    before = _times(folder)
    assert ensure_cohort(tmp_path, SMALL, None) == tmp_path / "plain"
    assert ensure_cohort(tmp_path, SMALL, "acdc") == folder
    assert _times(folder) == before
    # Who names that folder itself gets it.
    assert ensure_cohort(folder, SMALL, "acdc") == folder


def test_uk_biobank_comes_with_its_outcomes(tmp_path):
    table = _table(ensure_cohort(tmp_path, PhantomCohort(subjects=1, frames=2, workers=1), "ukb"))
    assert table[["diabetes", "hypertension", "cancer", "time", "event", "age", "bmi"]].notna().all(axis=None)


def test_full_size_is_prepared_as_published(tmp_path):
    cohort = PhantomCohort(subjects=1, size="full", workers=1)
    folder = ensure_cohort(tmp_path, cohort, "emidec")
    info = open_series(next(folder.glob("*/sax.b2nd"))).info
    np.testing.assert_allclose(info.spacing, (1.458, 1.458, 10.0))


@pytest.mark.parametrize("dataset", [None, "acdc"])
@pytest.mark.parametrize("file", ["cohort.csv", "subject/sax_0000.nii.gz", "acdc/sax_ed.nii.gz"])
def test_data_of_the_user_is_left_alone(dataset, file, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("theirs")
    assert ensure_cohort(tmp_path, SMALL, dataset) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == [file.split("/")[0]]


def test_a_plain_store_is_not_taken_for_a_dataset(tmp_path):
    phantom(subjects=2, out=tmp_path, size="small", frames=3)
    assert ensure_cohort(tmp_path, SMALL, None) == tmp_path
    assert ensure_cohort(tmp_path, SMALL, "acdc") == tmp_path / "acdc"
    assert len(_table(tmp_path / "acdc")) == 2


def test_other_data_under_the_datasets_name_is_not_used_silently(tmp_path):
    (tmp_path / "acdc").mkdir()
    (tmp_path / "acdc" / "cohort.csv").write_text("id\n")
    with pytest.raises(CinemaError, match="holds other data than phantoms of acdc"):
        ensure_cohort(tmp_path, SMALL, "acdc")


@pytest.mark.parametrize("dataset", [None, "acdc"])
def test_a_cohort_of_other_settings_is_used_with_a_word(dataset, tmp_path, caplog):
    folder = ensure_cohort(tmp_path, SMALL, dataset)
    before = _times(folder)
    with caplog.at_level(logging.INFO):
        assert ensure_cohort(tmp_path, PhantomCohort(subjects=5, frames=3, workers=1), dataset) == folder
    assert "made with subjects 2 instead of 5; they are used as they are" in caplog.text
    assert _times(folder) == before


def test_no_more_subjects_than_the_dataset_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(type(LAYOUTS["acdc"]), "most", 1)
    assert len(_table(ensure_cohort(tmp_path, SMALL, "acdc"))) == 1


def test_unknown_dataset(tmp_path):
    with pytest.raises(CinemaError, match="acdd"):
        ensure_cohort(tmp_path, SMALL, "acdd")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for dataset in (None, "acdc"):
        with pytest.raises(CinemaError, match=r"set phantom\.root to another folder"):
            ensure_cohort(tmp_path / "file" / "inside", SMALL, dataset)


def _stopped(monkeypatch, code: int) -> None:
    monkeypatch.setattr("cinema_lightning.prepare.command.prepare", lambda *_args, **_options: code)


def test_an_interrupted_making_goes_on(tmp_path, monkeypatch):
    _stopped(monkeypatch, 143)
    with pytest.raises(SystemExit) as stop:
        ensure_cohort(tmp_path, SMALL, "acdc")
    assert stop.value.code == 143
    assert not (tmp_path / "acdc" / "cohort.csv").exists()
    raw = _times(tmp_path / ".acdc.raw" / "database")
    monkeypatch.undo()

    seen = {}
    from cinema_lightning.prepare import command

    def watched(*args, **options):
        seen.update(_times(args[1] / "database"))
        return original(*args, **options)

    original = command.prepare
    monkeypatch.setattr(command, "prepare", watched)
    folder = ensure_cohort(tmp_path, SMALL, "acdc")
    assert seen == raw  # nothing was rendered a second time
    assert verify("acdc", folder) == 0
    assert not (tmp_path / ".acdc.raw").exists()


def test_an_interrupted_making_with_other_settings_starts_anew(tmp_path, monkeypatch):
    _stopped(monkeypatch, 130)
    with pytest.raises(SystemExit):
        ensure_cohort(tmp_path, SMALL, "acdc")
    monkeypatch.undo()
    folder = ensure_cohort(tmp_path, PhantomCohort(subjects=1, frames=2, workers=1), "acdc")
    assert _table(folder)["n_frames"].tolist() == [2]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"patient001"}


def test_a_plain_making_with_other_settings_starts_anew(tmp_path):
    folder = ensure_cohort(tmp_path, SMALL)
    (folder / "cohort.csv").unlink()  # as if it had been interrupted
    ensure_cohort(tmp_path, PhantomCohort(subjects=1, frames=2, workers=1))
    assert _table(folder)["n_frames"].tolist() == [2]


def test_two_at_once_make_one_cohort(tmp_path, monkeypatch):
    from cinema_lightning.phantom.raw import runner

    made, original = [], runner.make_raw

    def counted(*args, **options):
        made.append(args)
        original(*args, **options)

    monkeypatch.setattr(runner, "make_raw", counted)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(ensure_cohort(tmp_path, SMALL, "acdc"))) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "acdc"] * 3
    assert len(made) == 1
    assert len(_table(tmp_path / "acdc")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_48_subjects_have_splits_and_classes(name, tmp_path):
    folder = ensure_cohort(tmp_path, PhantomCohort(subjects=48, frames=2), name)
    assert verify(name, folder) == 0
    table = _table(folder)
    splits = table["split"].fillna("").value_counts()
    if name == "kaggle":
        assert set(splits.index) == {"test"}
    elif name == "ukb":
        assert set(splits.index) == {""}
        assert all(set(table[column]) == {0, 1} for column in ("diabetes", "hypertension", "cancer", "event"))
    else:
        assert splits[["train", "val", "test"]].min() >= 2
    train = table[table["split"] == "train"]
    for column, classes in DATASETS[name].classes.items():
        # As in the real data, labelled training of M&Ms has two vendors only.
        wanted = {"Philips", "Siemens"} if (name, column) == ("mnms", "vendor") else set(classes)
        assert set(train[column]) == wanted
