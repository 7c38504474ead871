"""Configurations by name and the bases they stand on."""

from argparse import ArgumentError
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from cinema_lightning import configs
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError


def test_packaged_configs_are_found_by_name_with_and_without_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.find_config("pretrain").name == "pretrain.yaml"
    assert configs.find_config("pretrain.yaml").is_file()


def test_a_file_beside_the_user_wins_over_a_packaged_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrain.yaml").write_text("seed_everything: 3\n")
    assert configs.find_config("pretrain.yaml").resolve() == tmp_path / "pretrain.yaml"


@pytest.mark.parametrize(
    ("before", "task", "data"),
    [
        ("_segmentation.yaml", "Segmentation", "SegmentationData"),
        ("_classification", "Classification", "ClassificationData"),
        ("_regression.yaml", "Regression", "RegressionData"),
        ("_landmarks.yaml", None, "LandmarkData"),
    ],
)
def test_bases_of_earlier_versions_are_found_by_their_names(before, task, data, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"base: {before}\ndata: {{init_args: {{views: [lax_4c]}}}}\n")
    arguments, _ = configs.unfold_arguments(["--config", str(tmp_path / "mine.yaml")])
    found = yaml.safe_load(arguments[1])
    assert found["model"].get("class_path") == task
    assert found["data"]["class_path"] == data
    if task is None:
        assert found["data"]["init_args"]["root"] == "data/landmark", "the dataset is part of it"


def test_unknown_name_says_which_are_close():
    with pytest.raises(CinemaError, match=r"did you mean pretrain\.yaml"):
        configs.find_config("pretrian.yaml")


def test_bases_are_merged_beneath_the_file_that_names_them(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1\nlist: [1, 2]\nin: {p: 1, q: 1}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nin: {q: 2}\nlist: [3]\n")
    (tmp_path / "c.yaml").write_text("base: [b.yaml, a.yaml]\nz: 1\n")
    (tmp_path / "d.yaml").write_text("x: 2\n")
    arguments, named = configs.unfold_arguments(
        ["--config", str(tmp_path / "c.yaml"), "--config", str(tmp_path / "d.yaml"), "--flag"]
    )
    assert yaml.safe_load(arguments[1]) == {"x": 1, "list": [3], "in": {"p": 1, "q": 2}, "z": 1}
    assert arguments[2:] == ["--config", str(tmp_path / "d.yaml"), "--flag"]
    assert [path.name for path in named] == ["c.yaml", "d.yaml"]


@pytest.mark.parametrize("listed", [True, False])
def test_the_data_named_first_are_not_emptied_by_an_experiment_for_any(listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("base: [_acdc.yaml, seg.yaml]\n")
    named = ["mine.yaml"] if listed else ["_acdc.yaml", "seg.yaml"]
    arguments, _ = configs.unfold_arguments([word for name in named for word in ("--config", name)])
    *before, last = [yaml.safe_load(text if "\n" in text else Path(text).read_text()) for text in arguments[1::2]]
    data = [config["data"]["init_args"] for config in (*before, last)]
    assert data[0]["root"] == "data/acdc"
    assert [one["root"] for one in data[1:] if "root" in one] == []
    assert last["data"]["class_path"] == "SegmentationData"


def test_options_of_an_exchanged_class_go_with_it():
    below = {"network": {"class_path": "ConvUNetR", "init_args": {"size": "base", "drop_path": 0.1}}}
    above = {"network": {"class_path": "UNet", "init_args": {"size": "mini"}}}
    assert configs.merged(below, above) == above
    same = {"network": {"class_path": "ConvUNetR", "init_args": {"size": "mini"}}}
    assert configs.merged(below, same)["network"]["init_args"] == {"size": "mini", "drop_path": 0.1}


def test_circle_of_bases_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(CinemaError, match=r"a\.yaml -> b\.yaml -> a\.yaml"):
        configs.unfold(tmp_path / "a.yaml")


@pytest.mark.parametrize(("text", "words"), [("a: [1\n", "line 2"), ("- 1\n", "not a mapping")])
def test_broken_yaml_is_one_sentence_with_the_file(tmp_path, text, words, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert main(["fit", "--config", str(path)]) == 2
    message = capsys.readouterr().err
    assert "bad.yaml" in message
    assert words in message
    assert "Traceback" not in message


def test_configs_verb_lists_one_line_each(capsys):
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pretrain.yaml") and "Pretrain" in line for line in lines)
    assert not any(line.startswith("_") for line in lines)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("sizes: {}", True),
        ("sizes: {sax: {}}", True),
        ("sizes: {sax: {}}\nin: {a: {}}", True),
        ("in: {a: {}}", True),
        ("sises: {}", False),
        ("in: {b: {}}", False),
        ("in: {b: {c: {}}}", False),
    ],
)
def test_an_empty_mapping_is_no_way_past_an_unknown_key(text, known, tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--sizes", type=dict | None)
    parser.add_argument("--in.a", type=dict)
    parser.add_argument("--name", type=str)
    (tmp_path / "a.yaml").write_text(text)
    arguments = ["--config", str(tmp_path / "a.yaml"), "--name", "{no yaml"]
    with nullcontext() if known else pytest.raises(ArgumentError, match="not accept"):
        configs.refuse_unknown(parser, arguments, parser.parse_args(arguments))
    replaced = [*arguments, "--sizes", "null"]  # what the file says is gone
    with nullcontext() if known else pytest.raises(ArgumentError, match="not accept"):
        configs.refuse_unknown(parser, replaced, parser.parse_args(replaced))
