"""Reading and writing the published layout."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.weights import files as weights
from cinema_lightning.weights.files import config_spacing, load_published, load_published_mae, save_published
from cinema_lightning.weights.layout import published_slots, to_published
from cinema_lightning.weights.published import published_network

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
VIEWS = ["sax", "lax_2c", "lax_3c", "lax_4c"]
TINY = {"views": ["sax", "lax_4c"], "size": "tiny", "conv_channels": [4, 8], "input_size": {"sax": [32, 32, 3]}}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = MaskedAutoencoder(**TINY)
    path = tmp_path / "out" / "tiny.safetensors"
    save_published(model, path)
    return model, path


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_base_model_has_the_published_keys_and_shapes():
    with torch.device("meta"):
        model = MaskedAutoencoder(VIEWS)
    published = json.loads((GOLDEN / "published_keys" / "mae_base.json").read_text())
    assert {slot.published: list(slot.shape) for slot in published_slots(model)} == published


def test_golden_file_survives_a_round_trip():
    path = GOLDEN / "mae" / "weights.safetensors"
    sizes = {
        "input_size": {view: [64, 64, 4] if view == "sax" else [64, 64] for view in VIEWS},
        "conv_channels": [8, 16],
        "enc_dim": 32,
        "enc_depth": 2,
        "enc_heads": 4,
        "dec_dim": 24,
        "dec_depth": 2,
        "dec_heads": 4,
    }
    model = load_published_mae(path, **sizes)
    golden, exported = load_file(path), to_published(model)
    assert golden.keys() == exported.keys()
    assert all(torch.equal(golden[key], exported[key]) for key in golden)
    rebuilt = MaskedAutoencoder(**model.config)
    for name, table in rebuilt.state_dict().items():
        if name.endswith("position.table"):
            torch.testing.assert_close(table, model.state_dict()[name], rtol=0, atol=1e-6)


def test_save_and_load_without_arguments(saved):
    model, path = saved
    again = load_published_mae(path)
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.yaml", "tiny.safetensors"]
    assert load_published_mae(path.parent).config == model.config


def test_config_beside_a_file_without_a_note(saved):
    model, path = saved
    rewrite(path, lambda tensors: None)  # drops the note
    again = load_published_mae(path)
    assert again.encoder.geometries == model.encoder.geometries
    config = yaml.safe_load((path.parent / "config.yaml").read_text())
    assert config["model"]["patch_size"] == [4, 4, 1]
    assert config["data"]["sax"]["patch_size"] == [32, 32, 3]


def test_published_defaults_where_there_is_no_config(saved):
    _, path = saved
    rewrite(path, lambda tensors: None)
    (path.parent / "config.yaml").unlink()
    with pytest.raises(CinemaError, match="does not fit this network"):
        load_published_mae(path)
    given = {"size": "tiny", "conv_channels": [4, 8], "input_size": {"sax": [32, 32, 3]}}
    assert load_published_mae(path, **given).views == ("sax", "lax_4c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.norm.bias"), "lacks encoder.norm.bias"),
        (lambda t: t.update({"head.weight": torch.zeros(2)}), "has unknown head.weight"),
        (lambda t: t.update({"encoder.norm.bias": torch.zeros(3)}), r"encoder.norm.bias \(\[3\] instead of \[16\]\)"),
    ],
)
def test_files_that_do_not_fit_are_refused_and_leave_the_network_alone(saved, change, message):
    _, path = saved
    rewrite(path, change)
    with pytest.raises(CinemaError, match=message):
        load_published_mae(path, **TINY)
    other = MaskedAutoencoder(**TINY)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CinemaError, match=message):
        load_published(other, path)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_other_layouts_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(2)}, path)
    with pytest.raises(CinemaError, match=r"first keys are layer\.weight"):
        load_published_mae(path)


def test_truncated_missing_and_strange_paths(saved, tmp_path):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CinemaError, match="not a whole safetensors file"):
        load_published_mae(path)
    with pytest.raises(CinemaError, match="neither a file, a folder nor a hub name"):
        load_published_mae(tmp_path / "absent.safetensors")
    with pytest.raises(CinemaError, match="holds 0 safetensors files"):
        load_published_mae(tmp_path)


def test_broken_config(saved):
    _, path = saved
    (path.parent / "config.yaml").write_text("model: [")
    with pytest.raises(CinemaError, match="not valid YAML"):
        load_published_mae(path)
    (path.parent / "config.yaml").write_text("model: 3")
    with pytest.raises(CinemaError, match="'model' should hold"):
        load_published_mae(path)


def test_hub_names(saved, monkeypatch, tmp_path):
    model, path = saved
    repository = tmp_path / "repository" / "pretrained"
    repository.mkdir(parents=True)
    shutil.copy(path, repository / "cinema.safetensors")
    shutil.copy(path.parent / "config.yaml", repository)
    asked = []

    def download(repo, name, revision=None):
        asked.append((repo, name, revision))
        found = repository.parent / name
        if not found.is_file():
            raise OSError(f"offline, and {name} is not in the cache")
        return str(found)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_published_mae("owner/name", revision="v1").config == model.config
    assert asked == [
        ("owner/name", "pretrained/cinema.safetensors", "v1"),
        ("owner/name", "pretrained/config.yaml", "v1"),
    ]
    (repository / "config.yaml").unlink()
    assert load_published_mae("owner/name/pretrained/cinema.safetensors").config == model.config
    with pytest.raises(CinemaError, match=r"offline, and absent\.safetensors"):
        load_published_mae("owner/name/absent.safetensors")


def test_saving_is_atomic(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def full(tensors, name, metadata=None):
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(CinemaError, match="No space left"):
        save_published(model, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.yaml", "tiny.safetensors"]


def test_saving_beside_another_network_is_refused(saved):
    _, path = saved
    other = MaskedAutoencoder(**{**TINY, "conv_channels": [8, 8]})
    with pytest.raises(CinemaError, match="belongs to another network"):
        save_published(other, path.with_name("other.safetensors"))
    with pytest.raises(CinemaError, match=r"must end in \.safetensors"):
        save_published(other, path.with_suffix(".pt"))


def test_the_voxel_size_is_kept_with_the_weights(tmp_path):
    path = tmp_path / "small" / "cinema.safetensors"
    model = MaskedAutoencoder(["sax", "lax_4c"], input_size={"sax": (32, 32, 4), "lax_4c": (32, 32)}, size="tiny")
    save_published(model, path, {"sax": [3.0, 3.0, 10.0], "lax_4c": [4.0, 4.0]})
    wanted = {"sax": [3.0, 3.0, 10.0], "lax_4c": [4.0, 4.0]}
    hparams, _ = published_network(path, {})
    assert hparams["spec"]["spacing"] == wanted
    config = path.with_name("config.yaml")
    content = yaml.safe_load(config.read_text())
    content["data"]["lax"]["spacing"] = [1.0, 1.0, 1.0]  # published values of planes have three numbers
    config.write_text(yaml.safe_dump(content))
    assert config_spacing(config)["lax_2c"] == [1.0, 1.0]
    content["data"]["sax"]["spacing"] = "fine"
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(CinemaError, match=r"config\.yaml: the spacing of sax is fine; it should be 3 voxel sizes"):
        config_spacing(config)
    config.unlink()
    assert published_network(path, {})[0]["spec"]["spacing"] == {}
