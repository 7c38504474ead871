"""The augmentation that CONTRIBUTING shows: a package brings it, YAML names it, and a fit uses it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from cinema_lightning.cli import main
from cinema_lightning.registry import AUGMENTATIONS, BACKBONES, DATA, TASKS

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = TEXT.partition("## An augmentation")[2].partition("\n## ")[0]
CONFIG = """
base: [acdc_seg.yaml, phantom.yaml]
model: {init_args: {network: {class_path: ConvUNetR, init_args: {size: tiny}}}}
data:
  init_args: {views: [sax], input_size: {sax: [64, 64, 8]}, batch_size: 2, num_workers: 0, val_fraction: 0.2}
trainer: {max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, enable_progress_bar: false}
"""


def block(language):
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def cinema(phantom_cohort, tmp_path_factory):
    """Trains with an augmentation; the plug-in is there as pip leaves it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "coilside.py").write_text(block("python"))
    about = folder / "coilside-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: coilside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cinema_lightning.plugins]\ncoilside = coilside\n")
    (folder / "base.yaml").write_text(CONFIG)

    def fit(augment, *more):
        (folder / "mine.yaml").write_text(yaml.safe_dump({"base": str(folder / "base.yaml")} | augment))
        paths = ["--data.root", str(phantom_cohort), "--runs", str(folder / "runs")]
        return main(["fit", "--config", str(folder / "mine.yaml"), *paths, *more]), folder / "runs" / "mine"

    with pytest.MonkeyPatch.context() as patch:
        for registry in (TASKS, DATA, BACKBONES, AUGMENTATIONS):
            registry.load()
            patch.setattr(registry, "_items", dict(registry._items))
            patch.setattr(registry, "_loaded", False)
        patch.syspath_prepend(str(folder))
        yield fit


def augmented(*effects):
    return {"data": {"init_args": {"augment": list(effects)}}}


def test_the_example_is_used_in_a_fit(cinema, monkeypatch):
    AUGMENTATIONS.load()
    example, drawn = sys.modules["coilside"].CoilSide, []
    apply = example.apply

    def watched(self, image, number, about):
        drawn.append((number, tuple(image.shape)))
        return apply(self, image, number, about)

    monkeypatch.setattr(example, "apply", watched)
    code, run = cinema(yaml.safe_load(block("yaml")))
    assert code == 0
    assert 0 < len(drawn) <= 4  # half of two batches of two
    assert all(abs(number) <= 0.2 for number, _ in drawn)
    assert {shape[0] for _, shape in drawn} == {1}
    saved = yaml.safe_load((run / "0" / "config.yaml").read_text())["data"]["init_args"]["augment"]
    assert [effect["class_path"].rpartition(".")[2] for effect in saved] == ["Gamma", "CoilSide", "Affine", "Crop"]
    assert saved[1] == {"class_path": "coilside.CoilSide", "init_args": {"probability": 0.5, "strength": 0.2}}
    assert saved[2]["init_args"]["turn"] == 20


@pytest.mark.parametrize(
    ("effect", "sentence"),
    [
        ("CoilSid", r"key 'data\.augment': there is no class CoilSid\. Did you mean CoilSide\?"),
        ("ConvViT", r"key 'data\.augment': there is no class ConvViT\. Known augmentations: Affine, CoilSide, "),
        ({"class_path": "Gamma", "init_args": {"power": 2}}, r"key 'data\.augment' of Gamma: Option 'power' is not "),
        ({"class_path": "Affine", "init_args": {"turn": "far"}}, r"key 'data\.augment\.turn' of Affine: Expected a fl"),
        ({"class_path": "CoilSide", "init_args": {"strength": 2}}, r"data\.augment: strength of CoilSide is 2\.0; it"),
        ({"class_path": "Noise", "init_args": {"scale": "x"}}, r"key 'data\.augment\.scale' of Noise: expected one of"),
    ],
)
def test_a_mistake_in_the_list_is_one_sentence(cinema, capsys, effect, sentence):
    code, run = cinema(augmented("Gamma", effect), "--name", "wrong")
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert re.match(f"cinema fit: {sentence}", said), said
    assert not (run.parent / "wrong").exists()


def test_the_scale_of_the_noise_is_said_in_one_place(cinema, capsys):
    assert cinema(augmented("Noise"), "--data.noise_scale=published", "--name", "wrong")[0] == 2
    assert "noise_scale is published, but data.augment is a list of effects" in capsys.readouterr().err
