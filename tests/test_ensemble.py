"""Several checkpoints, or turned images, asked together: averages, spreads, and what does not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.runs import one_argument, several
from cinema_lightning.weights.files import load_checkpoint

SMALL = [
    *("--config", "phantom.yaml", "--model.network.size", "tiny", "--data.val_fraction", "0.3"),
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--data.batch_size", "2"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Folder of the runs."""
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def command(place, phantom_cohort):
    def run(verb: str, config: str, *more: str) -> int:
        where = ["--data.dataset", "phantom", "--data.root", str(phantom_cohort), "--runs", str(place / "runs")]
        return main([verb, "--config", config, *SMALL, *where, *more])

    return run


@pytest.fixture(scope="module")
def seeds(command, place):
    """Trains a configuration with the seeds 0 and 1; gives the pattern of their checkpoints."""
    done: set[str] = set()

    def train(config: str) -> str:
        folder = place / "runs" / f"{Path(config).stem}+phantom"
        for seed in ("0", "1") if config not in done else ():
            assert command("fit", config, "--seed_everything", seed) == 0
        done.add(config)
        return str(folder / "[01]" / "checkpoints" / "best.ckpt")

    return train


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str, "subject": str})


def results(command, config: str, out: Path, *more: str, name: str = "cases.csv") -> pd.DataFrame:
    verb = "test" if name == "cases.csv" else "predict"
    extra = ["--output.overlays", "0"] if verb == "test" else ["--data.predict_split", "test"]
    assert command(verb, config, "--output.folder", str(out), *extra, *more) == 0
    return table(out / name)


def test_a_regression_of_two_seeds_is_their_mean_in_its_unit(seeds, command, tmp_path):
    pattern = seeds("acdc_ef.yaml")
    each = [results(command, "acdc_ef.yaml", tmp_path / n, "--ckpt_path", pattern.replace("[01]", n)) for n in "01"]
    both = results(command, "acdc_ef.yaml", tmp_path / "both", "--ckpt_path", pattern)
    values = np.stack([one["predicted"] for one in each])
    assert (values[0] != values[1]).all()
    np.testing.assert_allclose(both["predicted"], values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(both["predicted_sd"], values.std(axis=0, ddof=1), rtol=1e-3)
    assert "predicted_sd" not in each[0]
    facts = json.loads((tmp_path / "both" / "test.json").read_text())
    assert (facts["task"], facts["n_networks"], facts["tta"]) == ("Regression", 2, "none")
    assert len(facts["other_checkpoints"]) == 1
    rows = results(command, "acdc_ef.yaml", tmp_path / "rows", "--ckpt_path", pattern, name="predictions.csv")
    np.testing.assert_allclose(rows.sort_values("id")["predicted"], both.sort_values("id")["predicted"], rtol=1e-5)


def test_classes_of_two_seeds_are_averaged_as_probabilities(seeds, command, tmp_path):
    pattern = seeds("acdc_cvd.yaml")
    each = [results(command, "acdc_cvd.yaml", tmp_path / n, "--ckpt_path", pattern.replace("[01]", n)) for n in "01"]
    both = results(
        command, "acdc_cvd.yaml", tmp_path / "both", "--ckpt_path", ",".join(pattern.replace("[01]", n) for n in "01")
    )
    names = [name for name in each[0] if name.startswith("prob_")]
    values = np.stack([one[names].to_numpy() for one in each])
    np.testing.assert_allclose(both[names], values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(both[[f"{n}_sd" for n in names]], values.std(axis=0, ddof=1), atol=1e-6)
    agreement = np.mean([one["predicted"] == both["predicted"] for one in each], axis=0)
    np.testing.assert_allclose(both["predicted_agreement"], agreement)


@pytest.mark.slow
def test_segmentations_average_and_say_how_far_volumes_differ(seeds, command, tmp_path, place):
    pattern = seeds("acdc_seg.yaml")
    each = [results(command, "acdc_seg.yaml", tmp_path / n, "--ckpt_path", pattern.replace("[01]", n)) for n in "01"]
    both = results(command, "acdc_seg.yaml", tmp_path / "both", "--ckpt_path", pattern, "--output.overlays", "1")
    name = next(name for name in each[0] if name.endswith("_volume_pred"))
    values = np.stack([one[name] for one in each])
    np.testing.assert_allclose(both[f"{name}_sd"], values.std(axis=0, ddof=1), rtol=1e-3, atol=1e-3)
    assert len(list((tmp_path / "both" / "pictures").glob("overlays_*.png"))) == 1
    function = table(tmp_path / "both" / "function.csv")
    assert not [column for column in function if column.endswith("_sd")]
    # its own folder, beside the runs
    assert command("test", "acdc_seg.yaml", "--ckpt_path", pattern, "--output.overlays", "0") == 0
    assert (place / "runs" / "acdc_seg+phantom" / "ensemble" / "test" / "phantom" / "summary.csv").is_file()


@pytest.mark.parametrize("config", [pytest.param("acdc_seg.yaml", marks=pytest.mark.slow), "acdc_ef.yaml"])
def test_turned_images_give_what_one_network_says_of_them(config, seeds, command, tmp_path):
    checkpoint = seeds(config).replace("[01]", "0")
    plain = results(command, config, tmp_path / "plain", "--ckpt_path", checkpoint)
    seen = results(command, config, tmp_path / "seen", "--ckpt_path", checkpoint, "--tta", "flips")
    name = next(column for column in seen if column.endswith("_sd"))
    assert len(seen) == len(plain)
    assert seen[name].notna().any()
    assert json.loads((tmp_path / "seen" / "test.json").read_text())["tta"] == "flips"


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("acdc_ef.yaml", ["--ckpt_path", "{runs}/acdc_{ef,cvd}+phantom/0/checkpoints/best.ckpt"], "cannot be averaged"),
        ("acdc_ef.yaml", ["--ckpt_path", "{runs}/nothing/*/best.ckpt"], "no checkpoint fits this pattern"),
        ("acdc_ef.yaml", ["--tta", "upside"], "tta"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(config, options, words, seeds, command, place, capsys):
    for name in ("acdc_ef.yaml", "acdc_cvd.yaml"):
        seeds(name)
    runs = str(place / "runs")
    both = [option.replace("{ef,cvd}", name) for option in options for name in ("ef", "cvd") if "{ef" in option]
    options = [option.replace("{runs}", runs) for option in ([options[0], *both] if both else options)]
    assert command("test", config, *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in said


def test_training_goes_on_from_one_checkpoint_only(seeds, command, capsys):
    assert command("fit", "acdc_ef.yaml", "--ckpt_path", seeds("acdc_ef.yaml")) == 2
    assert "names 2 checkpoints" in capsys.readouterr().err


def test_a_network_that_was_trained_on_the_test_subjects_of_another_is_refused(
    seeds, command, phantom_cohort, tmp_path, capsys
):
    ours, theirs = (Path(seeds("acdc_ef.yaml").replace("[01]", n)) for n in "01")
    store = tmp_path / "store"
    shutil.copytree(phantom_cohort, store)
    cohort = pd.read_csv(store / "cohort.csv", dtype=str)
    cohort["split"] = ""  # nobody is named: the splits are drawn, and the seeds draw other ones
    cohort.to_csv(store / "cohort.csv", index=False)
    changed = []
    for path in (ours, theirs):
        content = load_checkpoint(path)
        content["hyper_parameters"]["spec"]["split"] |= {"test_fraction": 0.4}
        changed.append(tmp_path / f"{path.parents[1].name}.ckpt")
        torch.save(content, changed[-1])
    options = ["--data.root", str(store), "--output.folder", str(tmp_path / "out")]
    assert command("test", "acdc_ef.yaml", *options, "--ckpt_path", ",".join(map(str, changed))) == 2
    assert "was trained on test studies" in capsys.readouterr().err


def test_checkpoints_are_named_in_any_way(tmp_path):
    for number in ("0", "1"):
        (tmp_path / number / "checkpoints").mkdir(parents=True)
        (tmp_path / number / "checkpoints" / "best.ckpt").touch()
    a, b = (str(tmp_path / n / "checkpoints" / "best.ckpt") for n in "01")
    assert several(f"{tmp_path}/*", "test") == [a, b], "folders of runs stand for their best checkpoint"
    assert several([a, b, a], "test") == [a, b]
    assert several(None, "test") == [None]
    assert one_argument(["--ckpt_path", a, b, "--x", "1"]) == ["--x", "1", "--ckpt_path", json.dumps([a, b])]
    assert one_argument([f"--ckpt_path={a}", "--ckpt_path", b]) == ["--ckpt_path", json.dumps([a, b])]
    assert one_argument(["--ckpt_path", a, "--x"]) == ["--x", "--ckpt_path", a]
    with pytest.raises(CinemaError, match="cinema fit takes one"):
        several([a, b], "fit")
