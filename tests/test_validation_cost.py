"""Validation costs less than a tenth of a run in every packaged configuration."""

from pathlib import Path

import pytest
import yaml

from cinema_lightning.configs import list_configs, unfold_arguments

SUBJECTS = {
    "acdc": (90, 10),
    "mnms": (150, 34),
    "mnms2": (160, 40),
    "kaggle": (500, 200),
    "emidec": (80, 20),
    "myops": (20, 5),
    "landmark": (360, 120),
    "rescan": (60, 20),
}
"""Dataset -> training and validation subjects, or a cautious guess where they are drawn."""
FORWARD = 0.75
"""Cost of validating a sample over that of training it: a third for the pass forward, twice that in overlapping tiles,
and something for metrics."""


def read(*names: str) -> dict:
    arguments, _ = unfold_arguments([part for name in names for part in ("--config", name)])
    out: dict = {}
    for text in arguments[1::2]:
        found = yaml.safe_load(text) if "\n" in text else yaml.safe_load(Path(text).read_text(encoding="utf-8"))
        for key in ("trainer", "data", "checkpoint"):
            part = found.get(key) or {}
            part = {**part, **(part.get("init_args") or {})}
            out[key] = out.get(key, {}) | part
    return out


def share(config: dict) -> float:
    data, trainer = config["data"], config["trainer"]
    fraction = data.get("val_fraction", 0.1)
    train, val = SUBJECTS.get(data.get("dataset"), (1 - fraction - data.get("test_fraction", 0), fraction))
    validating = FORWARD * val / trainer.get("check_val_every_n_epoch", 1)
    return validating / (train + validating)


EXPERIMENTS = [name for name, _ in list_configs() if read(name).get("data", {}).get("class_path")]


@pytest.mark.parametrize("overlays", [[], ["phantom.yaml"], ["laptop.yaml"]], ids=["", "phantom", "laptop"])
def test_validation_is_less_than_a_tenth_of_every_packaged_experiment(overlays):
    shares = {name: share(read(name, *overlays)) for name in EXPERIMENTS}
    assert len(shares) > 30
    assert {name: round(cost, 3) for name, cost in shares.items() if cost > 0.1} == {}
