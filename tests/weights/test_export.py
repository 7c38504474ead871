"""``cinema export``: every network that the published layout has a place for, and back again."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from lightning.pytorch.cli import instantiate_module
from safetensors.torch import load_file, save_file

from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Task
from cinema_lightning.weights.export import export
from cinema_lightning.weights.files import load_published_mae, read_shapes, save_published
from cinema_lightning.weights.finetuned import finetuned_facts, load_finetuned, trained_on
from cinema_lightning.weights.kinds import PUBLISHED, PublishedKind
from cinema_lightning.weights.layout import published_slots
from cinema_lightning.weights.published import published_network
from cinema_lightning.weights.published_config import published_config
from cinema_lightning.weights.transfer import load_weights

SIZES = {"sax": [32, 32, 4], "lax_4c": [64, 64]}
VOXELS = {"sax": [3.0, 3.0, 10.0], "lax_4c": [4.0, 4.0]}
MODELS = "cinema_lightning.models"
CLASSES = ["background", "RV blood pool", "myocardium", "LV blood pool"]
KINDS = {
    "Segmentation": ("segmentation", ["sax"], ["image"], {"classes": CLASSES, "label_codes": [0, 1, 2, 3]}),
    "LandmarkHeatmap": ("landmarks", ["lax_4c"], ["image"], {"landmarks": ["hinge_1", "hinge_2", "apex"]}),
    "LandmarkCoordinate": ("landmarks", ["lax_4c"], ["image"], {"landmarks": ["hinge_1", "hinge_2", "apex"]}),
    "Classification": ("classification", ["sax"], ["ED", "ES"], {"target": "sex", "classes": ["M", "F"]}),
    "Regression": ("regression", ["sax", "lax_4c"], ["ED", "ES"], {"target": "lv_ef", "mean": 53.1, "std": 9.7}),
    "Survival": ("survival", ["sax"], ["ED", "ES"], {"n_events": 3}),
}


def hyperparameters(name, network=None, **options):
    kind, views, channels, facts = KINDS[name]
    spec = {
        "views": views,
        "input_size": {view: SIZES[view] for view in views},
        "channels": len(channels),
        "channel_names": channels,
        "kind": kind,
        "dataset": "acdc",
        "spacing_known": True,
        "spacing": {view: VOXELS[view] for view in views},
        "split": {"val_fraction": 0.1, "test_fraction": 0.0, "seed": 7},
        **facts,
    }
    dense = name in ("Segmentation", "LandmarkHeatmap")
    own = f"{MODELS}.convunetr.ConvUNetR" if dense else f"{MODELS}.convvit.ConvViT"
    network = network or {"class_path": own, "init_args": {"size": "tiny", "enc_heads": 4, "drop_path": 0.2}}
    task = TASKS[name]
    return {
        "_class_path": f"{task.__module__}.{name}",
        "spec": spec,
        "network": network,
        "weights": "gone.ckpt",
    } | options


def checkpoint(folder, hparams):
    """A checkpoint as `cinema fit` leaves one, of random weights; its task in evaluation mode."""
    torch.manual_seed(5)
    task = instantiate_module(Task, hparams | ({"weights": None} if "weights" in hparams else {}))
    path = folder / "best.ckpt"
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams}, path)
    return path, task.eval()


def images(spec):
    torch.manual_seed(1)
    return {view: torch.rand(2, spec["channels"], *size) for view, size in spec["input_size"].items()}


def tensors(output):
    return list(output.values()) if isinstance(output, dict) else [output]


@pytest.mark.parametrize("name", KINDS)
def test_exported_networks_come_back_to_the_bit(name, tmp_path):
    path, task = checkpoint(tmp_path, hyperparameters(name))
    out = tmp_path / "mine" / "weights.safetensors"
    export(path, out)
    wanted = tensors(task.network(images(task.spec)))

    hparams, state = published_network(out, {})
    assert hparams["spec"] == task.spec
    assert hparams["_class_path"].endswith(f".{name}")
    again = instantiate_module(Task, hparams).eval()
    again.network.load_state_dict(state)
    assert all(map(torch.equal, tensors(again.network(images(task.spec))), wanted))

    save_file(load_file(out), out)  # without our note, as a published file: the configuration beside it says the rest
    network, facts = load_finetuned(out, enc_heads=4)
    assert all(map(torch.equal, tensors(network.eval()(images(task.spec))), wanted))
    for fact, key in (("class_names", "classes"), ("target", "target"), ("mean", "mean"), ("landmarks", "landmarks")):
        assert facts.get(fact) == task.spec.get(key)
    config = yaml.safe_load((out.parent / "config.yaml").read_text())["data"]
    assert all(config["sax" if view == "sax" else "lax"]["spacing"] == VOXELS[view] for view in task.spec["views"])
    assert trained_on(out, out.parent / "config.yaml") == "acdc"


def test_what_serves_training_alone_stays_behind(tmp_path):
    init = {"size": "small", "norm": "layer", "deep_supervision": 2, "enc_depth": 1}
    path, task = checkpoint(
        tmp_path, hyperparameters("Segmentation", {"class_path": f"{MODELS}.convunetr.ConvUNetR", "init_args": init})
    )
    out = tmp_path / "mine" / "weights.safetensors"
    export(path, out)
    assert not [key for key in load_file(out) if "side" in key]
    hparams, state = published_network(out, {})
    assert "deep_supervision" not in hparams["network"]["init_args"]
    again = instantiate_module(Task, hparams).eval()
    again.network.load_state_dict(state)
    seen = images(task.spec)
    assert torch.equal(again.network(seen)["sax"], task.network(seen)["sax"])
    save_file(load_file(out), out)  # of one block a level and tokens of 8 x 8, as the shapes say
    network, _ = load_finetuned(out, enc_heads=4)
    assert torch.equal(network.eval()(seen)["sax"], task.network(seen)["sax"])


def test_what_lora_learnt_is_folded_in(tmp_path, capsys):
    hparams = hyperparameters("Segmentation", lora={"rank": 2, "alpha": 16.0, "dropout": 0.0})
    torch.manual_seed(5)
    task = instantiate_module(Task, hparams | {"weights": None}).eval()
    for key, value in task.state_dict().items():
        if key.endswith("lora_b"):
            torch.nn.init.normal_(value, std=0.3)
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams}, path)
    export(path, tmp_path / "mine" / "weights.safetensors")
    assert "2 adapters were folded" in capsys.readouterr().out
    network, _ = load_finetuned(tmp_path / "mine" / "weights.safetensors")
    wanted = task.network(images(task.spec))["sax"]
    torch.testing.assert_close(network.eval()(images(task.spec))["sax"], wanted, rtol=1e-4, atol=1e-5)


def test_what_an_exported_file_says_reaches_a_fine_tuning(tmp_path):
    path, _ = checkpoint(tmp_path, hyperparameters("Classification"))
    export(path, tmp_path / "mine" / "weights.safetensors")
    options = {"channels": 2, "outputs": 2, "input_size": {"sax": SIZES["sax"]}, "size": "tiny", "enc_heads": 4}
    report = load_weights(tmp_path / "mine" / "weights.safetensors", ConvViT(["sax"], **options))
    assert report.complete
    assert (report.facts["target"], report.facts["class_names"], report.facts["kind"]) == (
        "sex",
        ["M", "F"],
        "classification",
    )


def test_what_has_no_published_counterpart_is_refused(tmp_path, capsys):
    unet = {"class_path": f"{MODELS}.baselines.UNet", "init_args": {"size": "tiny"}}
    patches = {"class_path": f"{MODELS}.convvit.ConvViT", "init_args": {"size": "tiny", "variant": "patch"}}
    instance = {"class_path": f"{MODELS}.convunetr.ConvUNetR", "init_args": {"size": "tiny", "norm": "instance"}}
    for hparams, message in (
        (hyperparameters("Segmentation", instance), "instance norms in its decoder, which the published layout cannot"),
        (hyperparameters("Segmentation", unet), "holds a UNet, which the published layout has no place for"),
        (hyperparameters("Survival", patches), "variant 'patch'"),
    ):
        path, _ = checkpoint(tmp_path, hparams)
        with pytest.raises(CinemaError, match=message):
            export(path, tmp_path / "mine" / "weights.safetensors")
        assert not (tmp_path / "mine").exists()
    assert main(["export", "--checkpoint", str(path), "--out", str(tmp_path / "weights.bin")]) == 2
    assert "has to end in .safetensors" in capsys.readouterr().err


def test_a_damaged_note_is_said(tmp_path):
    path, _ = checkpoint(tmp_path, hyperparameters("Survival"))
    out = tmp_path / "mine" / "weights.safetensors"
    export(path, out)
    for note in ("{", "[1]", json.dumps({"task": "Survival", "spec": 3})):
        save_file(load_file(out), out, metadata={"cinema_lightning": note})
        with pytest.raises(CinemaError, match="damaged note"):
            published_network(out, {})


def base(kind, **arguments):
    with torch.device("meta"):
        return kind(**arguments)


ED_ES = {"channel_names": ["ED", "ES"]}
LANDMARKS = {"kind": "landmarks", "landmarks": ["hinge_1", "hinge_2", "apex"], "dataset": "landmark"}
LABELS = {"kind": "segmentation", "classes": CLASSES, "label_codes": [0, 1, 2, 3], "dataset": "acdc"}
DISEASES = {"kind": "classification", "target": "pathology", "classes": list("abcde"), "dataset": "mnms", **ED_ES}
BASE = {
    "convunetr_base_sax": (base(ConvUNetR, views=["sax"]), LABELS),
    "convunetr_base_lax_4c": (base(ConvUNetR, views=["lax_4c"]), LABELS),
    "convvit_base_lax_4c_landmark": (base(ConvViT, views=["lax_4c"], outputs=6), LANDMARKS),
    "convvit_base_sax_2frames_5classes": (base(ConvViT, views=["sax"], channels=2, outputs=5), DISEASES),
}
DATA = {
    "sax": {"patch_size": [192, 192, 16], "spacing": [1.0, 1.0, 10.0], "in_chans": 1},
    "lax": {"patch_size": [256, 256], "spacing": [1.0, 1.0], "in_chans": 1},
}
ENCODER = {"size": "base", "enc_conv_chans": [64, 128], "enc_conv_n_blocks": 2}


def has_published_keys(model, file, golden):
    published = json.loads((golden / "published_keys" / f"{file}.json").read_text())
    return {slot.published: list(slot.shape) for slot in published_slots(model)} == published


def test_a_base_autoencoder_has_the_published_keys_and_configuration(golden):
    views = ["sax", "lax_2c", "lax_3c", "lax_4c"]
    model = base(MaskedAutoencoder, views=views)
    assert has_published_keys(model, "mae_base", golden)
    kernels = {"patch_size": [4, 4, 1], "scale_factor": [2, 2, 1]}
    assert published_config(model) == {"data": DATA, "model": {**ENCODER, **kernels, "views": views}}


@pytest.mark.parametrize("file", BASE)
def test_base_networks_have_the_published_keys_and_configuration(file, golden):
    model, spec = BASE[file]
    assert has_published_keys(model, file, golden)
    config = published_config(model, about={"spec": spec, "network": {"arguments": {"drop_path": 0.2}}})
    view = "sax" if "sax" in file else "lax"
    assert (config["data"][view], config["data"]["name"]) == (DATA[view], spec["dataset"])
    kernels = {"enc_patch_size": [4, 4, 1], "enc_scale_factor": [2, 2, 1]}
    decoder = {"dec_chans": [32, 64, 128, 256, 512], "dec_patch_size": [2, 2, 1], "dec_scale_factor": [2, 2, 1]}
    dense = "unetr" in file
    rates = {"dropout": 0.1, "drop_path": 0.2}
    frames = {} if dense else {"n_frames": 2 if "2frames" in file else 1}
    assert config["model"] == {
        "name": file.split("_")[0],
        "views": model.views[0],
        "out_chans": model.outputs,
        **frames,
        file.split("_")[0]: {**ENCODER, **kernels, **rates, **(decoder if dense else {})},
    }
    if spec is DISEASES:
        assert (config["data"]["class_column"], config["data"]["pathology"]) == ("pathology", list("abcde"))


def test_an_exported_autoencoder_comes_back(tmp_path):
    spec = {"views": ["sax"], "input_size": {"sax": SIZES["sax"]}, "channels": 1}
    network = {"class_path": f"{MODELS}.mae.MaskedAutoencoder", "init_args": {"size": "tiny"}}
    hparams = {"_class_path": "cinema_lightning.tasks.pretrain.Pretrain", "spec": spec, "network": network}
    path, task = checkpoint(tmp_path, hparams)
    export(path, tmp_path / "mine" / "weights.safetensors")
    assert yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())["model"]["views"] == ["sax"]
    again = load_published_mae(tmp_path / "mine").eval()
    wanted, found = task.network.encode(images(spec)), again.encode(images(spec))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_kind_of_a_plug_in_names_its_outputs_in_the_configuration(tmp_path, monkeypatch):
    PUBLISHED.load()
    monkeypatch.setattr(PUBLISHED, "_items", dict(PUBLISHED._items))
    kind = PublishedKind(
        write=lambda spec: {"walls": spec["classes"]},
        read=lambda data, path: {"class_names": data["walls"]} if "walls" in data else {},
        task="wall",
    )
    PUBLISHED.add("wall", kind)
    model = ConvViT(["sax"], outputs=2, size="tiny", input_size={"sax": SIZES["sax"]})
    path = tmp_path / "mine" / "weights.safetensors"
    save_published(model, path, about={"spec": {"kind": "wall", "classes": ["thin", "thick"]}})
    config = yaml.safe_load((path.parent / "config.yaml").read_text())
    assert (config["task"], config["data"]["walls"]) == ("wall", ["thin", "thick"])
    facts = finetuned_facts(path, path.parent / "config.yaml", read_shapes(path))
    assert facts["class_names"] == ["thin", "thick"]
    assert published_config(model, about={"spec": {"kind": "nobody's"}})["task"] == "regression"
