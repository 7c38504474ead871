"""Run folders and checkpoints by name."""

from pathlib import Path

import pytest

from cinema_lightning import runs
from cinema_lightning.errors import CinemaError


def test_name_is_made_of_all_overlays(tmp_path):
    saved = tmp_path / "pretrain+phantom" / "3" / "config.yaml"
    saved.parent.mkdir(parents=True)
    saved.touch()
    assert runs.run_name([Path("pretrain.yaml"), Path("x/phantom.yaml")]) == "pretrain+phantom"
    assert runs.run_name([saved]) == "pretrain+phantom"


def test_versions_count_up_as_numbers(tmp_path):
    for number in range(12):
        assert runs.new_run(tmp_path, "a").name == str(number)
    assert [run.name for run in runs.versions(tmp_path / "a")][-1] == "11"


def _checkpoint(root: Path, version: str, which: str) -> Path:
    path = runs.checkpoint_path(root / "a" / version, which)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (root / "a" / version / "config.yaml").touch()
    return path


def test_best_of_the_newest_run_that_has_one(tmp_path):
    _checkpoint(tmp_path, "2", "best")
    path = _checkpoint(tmp_path, "10", "best")
    (tmp_path / "a" / "11").mkdir()
    assert runs.resolve_checkpoint(None, tmp_path, "a", "test") == (path, path.parents[1])


def test_random_weights_are_never_tested(tmp_path):
    with pytest.raises(CinemaError, match="random weights"):
        runs.resolve_checkpoint(None, tmp_path, "a", "test")


def test_resuming_needs_a_checkpoint_unless_auto(tmp_path):
    with pytest.raises(CinemaError, match="to resume from"):
        runs.resolve_checkpoint("last", tmp_path, "a", "fit")
    assert runs.resolve_checkpoint("auto", tmp_path, "a", "fit") == (None, None)
    path = _checkpoint(tmp_path, "0", "last")
    assert runs.resolve_checkpoint("auto", tmp_path, "a", "fit")[0] == path


def test_a_named_file_brings_its_run_folder(tmp_path):
    path = _checkpoint(tmp_path, "0", "last")
    assert runs.resolve_checkpoint(str(path), tmp_path, "b", "fit")[1] == path.parents[1]
    with pytest.raises(CinemaError, match="no checkpoint"):
        runs.resolve_checkpoint(str(tmp_path / "no.ckpt"), tmp_path, "b", "fit")
