"""Which benchmarks `make bench` runs, and that nnU-Net's absence is said."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", BENCHMARKS / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_run_or_said_to_run_elsewhere(bench):
    found = bench.benchmarks()
    assert {"pretrain_step", "dense_inference", "end_to_end", "prepare", "statistics"} <= set(found)
    assert not [name for name in found if name.startswith("reference_") or name in ("common", "turns", "simulation")]
    assert not set(bench.OPTIONS) & set(bench.ELSEWHERE), "options of scripts that are not run"


@pytest.mark.slow
def test_without_nnunet_one_sentence_says_what_to_give(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "nnunet.py"), "--nnunet", str(tmp_path / "python")]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("nnU-Net is not here, so nothing was compared: give --nnunet")
    assert result.stdout.count("\n") == 1


@pytest.fixture(scope="module")
def learning():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("learning")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_frozen_features_are_those_of_ed_beside_those_of_es(learning):
    found = {("b", 0): np.array([1]), ("b", 3): np.array([2]), ("a", 0): np.array([3]), ("a", 5): np.array([4])}
    cohort = pd.DataFrame({"ed_frame": [5, 0], "es_frame": [0, 3]}, index=["a", "b"])
    np.testing.assert_array_equal(learning.frozen(found, cohort), [[4, 3], [1, 2]])


def test_the_spread_of_a_subject_is_a_share_of_its_volumes(learning):
    cases = pd.DataFrame({"subject": ["a", "a", "b"], "mean_dice": [0.8, 0.6, 0.9]})
    cases = cases.assign(lv_volume_pred=[100, 50, 80], rv_volume_pred=[100, 50, 120])
    cases = cases.assign(lv_volume_pred_sd=[10, 10, 2], rv_volume_pred_sd=[10, 20, 2])
    found = learning.by_subject(cases)
    np.testing.assert_allclose(found, [[0.7, 0.2], [0.9, 0.02]])


def test_a_figure_that_is_none_meets_no_bar_and_errors_that_fall_are_a_gain(learning, tmp_path):
    done = []
    for number, error in enumerate((2.0, 3.0)):
        place = tmp_path / str(number)
        place.mkdir()
        true = np.arange(40.0)
        cases = pd.DataFrame({"id": [f"p{n:02d}" for n in range(40)], "true": true, "predicted": true + error})
        cases["predicted"] += np.linspace(-1, 1, 40)
        cases.to_csv(place / "cases.csv", index=False)
        (place / "test.json").write_text('{"kind": "regression", "target": "lv_ef"}')
        done.append(learning.Done(place, 1.0))
    found = learning.gain(done[:1], done[1:])[1]
    assert found.value == pytest.approx(1.0)
    assert learning.held("gain", found, "above 0", found.low > 0).met
    nothing = learning.gain([learning.Done(done[0].results, 1.0)], done[:1])[1]
    assert not learning.held("gain", nothing, "above 0", nothing.low > 0).met


def test_a_run_of_other_options_is_not_taken_for_the_one_that_was_asked_for(learning, tmp_path):
    runs = sys.modules["learning_runs"]
    setting = runs.Setting(tmp_path, (0,), 1.0, 0.25, 1, True)
    place = tmp_path / "runs" / "one" / "0"
    place.mkdir(parents=True)
    (place / "trained.json").write_text('{"minutes": 2.5, "options": ["--trainer.max_epochs", "9"]}')
    with pytest.raises(SystemExit, match="trained with other options"):
        runs.train("one", ["--trainer.max_epochs", "8"], setting)


@pytest.mark.parametrize("split", ["train", "test"])
def test_subjects_to_be_examined_train_nothing_where_the_making_was_stopped(split, learning, tmp_path, monkeypatch):
    """Phantoms come with splits of their own, and the examined ones are set apart after that."""
    runs = sys.modules["learning_runs"]
    table = tmp_path / "cohort.csv"
    table.write_text(f"id,split\nphantom_00000,train\nphantom_00001,{split}\n")
    asked = []
    monkeypatch.setattr(runs, "cinema", lambda arguments: asked.append(arguments))
    runs.make_cohort(tmp_path, 1, 1, 0)
    assert pd.read_csv(table)["split"].tolist() == ["train", "test"]
    assert len(asked) == (split == "train")


def test_trainings_side_by_side_wait_only_for_those_they_begin_at(learning, tmp_path, monkeypatch):
    runs = sys.modules["learning_runs"]
    setting = runs.Setting(tmp_path, (0, 1), 9.0, 0.25, 1, False, epochs=(("segmentation_ours", 3),))
    monkeypatch.setattr(learning, "pretrain", lambda _: (tmp_path / "best.ckpt", 1.0))
    found = learning.chains(["pretraining", "ensemble"], setting)
    names = [[one.name for one in chain] for chain in found]
    assert len({name for chain in names for name in chain}) == 2 * (2 * 5 + 1)
    assert names[0] == ["lvef_0.25_pretrained_seed0", "survival_0.25_pretrained_seed0"]
    (first,) = (chain for chain in found if chain[0].name == "segmentation_ours_seed0")
    assert first[0].epochs == 3
    assert str(setting.best("lvef_0.25_pretrained_seed0")) in found[0][1].fit


def test_a_bar_is_judged_only_where_it_is_measured_as_it_asks(learning, tmp_path):
    runs = sys.modules["learning_runs"]
    whole = runs.Setting(tmp_path, (0, 1, 2), 9.0, 0.25, 450, False)
    quick, one = (replace(whole, **part) for part in ({"quick": True}, {"seeds": (0,)}))
    assert all(learning.as_asked(group, whole) for group in learning.GROUPS)
    assert not any(learning.as_asked(group, quick) for group in learning.GROUPS)
    assert [group for group in learning.GROUPS if learning.as_asked(group, one)] == ["features"]
    assert not learning.as_asked("pretraining", replace(whole, fraction=1.0))
