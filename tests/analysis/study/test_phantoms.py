"""What a network that has seen phantoms only finds in a person is said to be doubtful, wherever the numbers are."""

import csv
import json
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
import yaml

import cinema_lightning
from cinema_lightning.analysis.headers import of_phantom, read_headers
from cinema_lightning.analysis.networks import Networks, load_networks
from cinema_lightning.analysis.sources import sources_of
from cinema_lightning.analysis.study import analyse, judged
from cinema_lightning.cli import main

NAME = "trained_on_phantoms"
SENTENCE = (
    "The network of SAX was trained on phantoms only, and nothing says that the study is of one: what it finds in a "
    "person may look right and be far off."
)
PHANTOM = {"QualityControlSubject": "YES"}


def _verdicts(checks) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


@pytest.fixture
def unreal(network, use):
    """The network of the short axis, trained on phantoms only."""
    use(Networks({"sax": network}, {}, {"weights_1": "thresholds sha256:00"}, by_phantoms=frozenset({"sax"})))
    return network


def test_a_person_is_warned_of_in_all_that_is_written(study, unreal, tmp_path):
    made, out, own = study(), tmp_path / "out", tmp_path / "corrections.yaml"
    place = made.write(tmp_path / "s", ("SAX",))
    own.write_text("ed: 10")
    for corrections in ((), ("--corrections", str(own))):  # what a person corrects is still what that network drew
        assert main(["analyse", str(place), "--out", str(out), *corrections]) == 0
        with (out / "results.csv").open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        assert row["quality"] == "warn"
        assert SENTENCE in row["reasons"]
        record = json.loads((out / row["id"] / "result.json").read_text())
        assert {"name": NAME, "verdict": "warn", "sentence": SENTENCE} in record["checks"]
        assert SENTENCE in (out / row["id"] / "report.html").read_text()
        frame = int(row["lv_ed_frame"])
        assert frame == (10 if corrections else 11)
        assert float(row["lv_edv"]) == pytest.approx(made.volumes["lv"][frame], rel=0.02)


def test_a_phantom_passes_and_thresholds_decide(study, unreal, tmp_path):
    place = study().write(tmp_path / "s", ("SAX",))
    result, own = analyse(place), tmp_path / "mine.yaml"
    assert _verdicts(result.checks)[NAME] == "warn"
    others = {name: verdict for name, verdict in _verdicts(result.checks).items() if name != NAME}
    phantom = judged(replace(result, study=replace(result.study, phantom=True)))
    assert _verdicts(phantom.checks) == others | {NAME: "pass"}
    assert _verdicts(judged(replace(result, by_phantoms=())).checks) == others
    own.write_text(f"{NAME}: {{warn_above: 1}}")
    assert _verdicts(judged(result, own).checks) == others | {NAME: "pass"}
    own.write_text(f"{NAME}: {{refuse_above: 0}}")
    refused = judged(result, own)
    assert (refused.quality, refused.measured.numbers["lv_edv"]) == ("refuse", None)


@pytest.mark.parametrize(("people", "phantom"), [(0, True), (1, False)])
def test_one_image_of_a_person_makes_no_phantom(study, tmp_path, people, phantom):
    place = study(tags=PHANTOM, slices=2, frames=2).write(tmp_path / "s", ("SAX",))
    study(slices=2, frames=2).write(tmp_path / "more", ("SAX",))
    for path in sorted((tmp_path / "more").iterdir())[:people]:
        path.replace(place / path.name)
    with sources_of(place) as sources:
        assert of_phantom(read_headers(sources)[0]) is phantom


def test_nifti_cannot_say_that_it_is_a_phantom(unreal, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.full((16, 16, 8, 3), 30, np.int16), np.eye(4)), tmp_path / "sax.nii.gz")
    assert _verdicts(analyse(tmp_path / "sax.nii.gz").checks)[NAME] == "warn"


@pytest.fixture
def trained(train, tmp_path):
    """Makes a checkpoint in a run's folder, with what it and its configuration say of the data."""

    def take(facts: dict, config: dict | None = None, name: str = "run"):
        run = tmp_path / "runs" / name / "0"
        path = train(run / "checkpoints" / "best.ckpt", "Segmentation", views=["sax"])
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"]["spec"] |= facts
        torch.save(content, path)
        if config is not None:
            (run / "config.yaml").write_text(yaml.safe_dump(config))
        return path

    return take


def _run_on(root: str, phantoms: str | None = "phantom") -> dict:
    return {
        "data": {"init_args": {"root": root, "dataset": "acdc"}},
        "phantom": None if phantoms is None else {"root": phantoms},
    }


@pytest.mark.parametrize(
    ("facts", "config", "told"),
    [
        ({"dataset": "acdc", "phantoms": True}, None, True),
        ({"dataset": "phantom", "phantoms": False}, None, False),  # a store of people that names no dataset
        # before checkpoints said it
        ({"dataset": "phantom"}, None, True),
        ({"dataset": "acdc"}, None, False),
        ({"dataset": "acdc"}, _run_on("phantom/acdc"), True),
        ({"dataset": "acdc"}, _run_on("elsewhere/acdc"), False),
        ({"dataset": "acdc"}, _run_on("phantom/acdc", None), False),
        ({"dataset": "acdc"}, {"data": [1], "phantom": True}, False),  # another program's file
    ],
)
def test_what_a_checkpoint_and_its_run_say(trained, facts, config, told):
    networks = load_networks([trained(facts, config)])
    assert networks.by_phantoms == ({"sax"} if told else set())


def test_one_of_an_ensemble_is_enough(trained):
    both = [trained({"dataset": "acdc", "phantoms": seen}, name=f"run{seen}") for seen in (False, True)]
    assert load_networks(both).by_phantoms == {"sax"}


@pytest.mark.parametrize("facts", [{"phantoms": True}, {}])
def test_what_is_exported_still_says_it(trained, tmp_path, facts):
    path, out = trained({"dataset": "acdc"} | facts, _run_on("phantom/acdc")), tmp_path / "out" / "network.safetensors"
    assert main(["export", "--checkpoint", str(path), "--out", str(out)]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cinema_lightning.load(out).spec.phantoms
