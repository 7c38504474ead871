"""The matrix: cells, names, arguments, filters, and one sentence for each mistake."""

import re
from pathlib import Path

import pytest
import yaml

from cinema_lightning.benchmark.matrix import Cell, read_matrix, select
from cinema_lightning.benchmark.runner import max_epochs
from cinema_lightning.errors import CinemaError

SMALL = {
    "seeds": [0, 1],
    "fractions": [100, 12.5],
    "overlays": ["phantom.yaml"],
    "arguments": {"trainer.max_epochs": 7},
    "arms": {
        "dense": {
            "cinema": {"weights": "mathpluscode/CineMA", "layer_decay": 0.75},
            "unet": {"network": {"class_path": "UNet", "init_args": {"size": "mini"}}, "arguments": {"stop.x": 1}},
        },
        "pooled": {"resnet50": {"network": "ResNet50"}},
    },
    "tasks": {
        "pretrain": {"kind": "dense", "also_test": ["laptop"]},
        "other": {"kind": "pooled", "config": "pretrain", "seeds": [3], "fractions": [50]},
    },
}


def write(folder: Path, content) -> str:
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False) if not isinstance(content, str) else content)
    return str(path)


def changed(*path, value):
    """SMALL with one value replaced (or taken away: None)."""
    content = yaml.safe_load(yaml.safe_dump(SMALL, sort_keys=False))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def test_cells_in_stable_order(tmp_path):
    cells = read_matrix(write(tmp_path, SMALL)).cells
    assert [cell.name for cell in cells] == [
        "pretrain/cinema/f100/s0",
        "pretrain/cinema/f100/s1",
        "pretrain/cinema/f12.5/s0",
        "pretrain/cinema/f12.5/s1",
        "pretrain/unet/f100/s0",
        "pretrain/unet/f100/s1",
        "pretrain/unet/f12.5/s0",
        "pretrain/unet/f12.5/s1",
        "other/resnet50/f50/s3",
    ]


def test_arguments_of_a_cell(tmp_path):
    cells = {cell.name: cell for cell in read_matrix(write(tmp_path, SMALL)).cells}
    assert cells["pretrain/cinema/f12.5/s1"].fit == (
        *("--config", "pretrain.yaml"),
        "--model.init_args.weights=mathpluscode/CineMA",
        "--model.init_args.layer_decay=0.75",
        *("--config", "phantom.yaml"),
        "--data.init_args.fraction=0.125",
        "--seed_everything=1",
        "--trainer.max_epochs=7",
    )
    unet = cells["pretrain/unet/f100/s0"]
    assert "--model.init_args.network.class_path=UNet" in unet.fit
    assert '--model.init_args.network.init_args={"size": "mini"}' in unet.fit
    assert "--model.init_args.weights=null" in unet.fit
    assert unet.fit[-1] == "--stop.x=1"
    assert [test.name for test in unet.tests] == ["pretrain", "laptop"]
    assert unet.tests[1].arguments == ("--config", "laptop.yaml", "--config", "phantom.yaml")
    assert max_epochs(unet) == 7


def test_the_digest_follows_the_options_of_the_training(tmp_path):
    before = read_matrix(write(tmp_path, SMALL)).cells[0]
    assert Cell.from_dict(before.as_dict()) == before
    after = read_matrix(write(tmp_path, changed("arguments", value={"trainer.max_epochs": 8}))).cells[0]
    assert before.digest != after.digest
    assert (
        before.digest
        == read_matrix(write(tmp_path, changed("tasks", "pretrain", value={"kind": "dense"}))).cells[0].digest
    )


def test_a_configuration_beside_the_matrix_is_named_in_full(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: pretrain.yaml\ntrainer: {max_epochs: 3}\n")
    content = changed("tasks", value={"mine": {"kind": "dense"}})
    content["arguments"] = {}
    content["overlays"] = []
    cell = read_matrix(write(tmp_path, content)).cells[0]
    assert cell.fit[1] == str(tmp_path / "mine.yaml")
    assert max_epochs(cell) == 3


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        (changed("seedz", value=[1]), "seedz", "did you mean seeds"),
        (changed("tasks", "pretrain", value={"kind": "dense", "colour": 1}), "tasks.pretrain.colour", "unknown"),
        (changed("tasks", "pretrain", value={"kind": "flat"}), "tasks.pretrain.kind", "dense"),
        (changed("tasks", "pretrian", value={"kind": "dense"}), "tasks.pretrian", "did you mean pretrain"),
        (changed("tasks", "pretrain", value={"kind": "dense", "also_test": ["no"]}), "tasks.pretrain.also_test", "no"),
        (changed("tasks", "pretrain", value={"kind": "dense", "also_test": ["pretrain"]}), "also_test", "twice"),
        (changed("tasks", "pretrain", value={"kind": "dense", "arms": ["rnn"]}), "tasks.pretrain.arms", "cinema, unet"),
        (changed("tasks", value={}), "tasks", "empty"),
        (changed("seeds", value=[]), "seeds", "empty"),
        (changed("seeds", value=None), "seeds", "missing"),
        (changed("seeds", value=[0.5]), "seeds", "0.5"),
        (changed("fractions", value=[0.5]), "fractions", "percents"),
        (changed("fractions", value=[50, 50]), "fractions", "twice"),
        (changed("fractions", value=[True]), "fractions", "True"),
        (changed("arms", "dense", value={}), "arms.dense", "empty"),
        (changed("arms", "sparse", value={}), "arms.sparse", "unknown"),
        (changed("arms", "dense", "a/b", value={}), "arms.dense.a/b", "folder"),
        (changed("arms", "dense", "unet", "weight", value="x"), "arms.dense.unet.weight", "did you mean weights"),
        (changed("overlays", value=["fantom"]), "overlays", "fantom"),
        (changed("arguments", value=[1]), "arguments", "key: value"),
        ("tasks: [", "line", "not valid YAML"),
        ("- 1", "file", "key: value"),
        ("model: 1", "tasks", "missing|unknown"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(tmp_path, content, key, words):
    with pytest.raises(CinemaError) as caught:
        read_matrix(write(tmp_path, content))
    message = str(caught.value)
    assert key in message
    assert re.search(words, message)
    assert "matrix.yaml" in message
    assert "\n" not in message


def test_filters(tmp_path):
    cells = read_matrix(write(tmp_path, SMALL)).cells
    assert select(cells, None) == list(range(9))
    assert select(cells, "arm=unet,seed=0") == [4, 6]
    assert select(cells, "arm=unet,cinema,fraction=12.5,seed=1") == [3, 7]
    assert select(cells, "task=o*") == [8]
    assert select(cells, "cell=*/f100/s1") == [1, 5]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("colour=red", "no axis 'colour'"),
        ("arm=vit", "no arm is vit; there are cinema, unet, resnet50"),
        ("unet", "AXIS=VALUE"),
        ("arm=", "AXIS=VALUE"),
        ("arm=resnet50,seed=0", "together"),
    ],
)
def test_a_filter_that_lets_nothing_through_is_a_mistake(tmp_path, expression, words):
    with pytest.raises(CinemaError, match=words):
        select(read_matrix(write(tmp_path, SMALL)).cells, expression)


def test_folds_are_an_axis(tmp_path):
    cells = read_matrix(write(tmp_path, SMALL | {"folds": 3})).cells
    assert len(cells) == 27
    assert cells[1].name == "pretrain/cinema/f100/s0k2of3"
    assert "--data.init_args.fold=2/3" in cells[1].fit
    assert Cell.from_dict(cells[1].as_dict()) == cells[1]
    assert [cells[i].fold for i in select(cells, "fold=2/3,task=other")] == ["2/3"]
    assert len({cell.digest for cell in cells[:3]}) == 3
    for content, words in (
        ({"folds": 1}, "key 'folds' is 1; give the number of folds"),
        ({"folds": 3, "test_arguments": {"data.init_args.test_split": "val"}}, "cannot be had with a test_split"),
    ):
        with pytest.raises(CinemaError, match=words):
            read_matrix(write(tmp_path, SMALL | content))
