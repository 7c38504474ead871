"""``cinema export --format``: graphs that run without this package give the network's numbers."""

from __future__ import annotations

import json

import pytest
import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.registry import BACKBONES, class_path
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.task import Segmentation
from cinema_lightning.weights import graph
from cinema_lightning.weights.export import export

SIZE = {"sax": [32, 32, 4], "lax_4c": [32, 32]}
FACTS = {"dataset": "acdc", "channels": 1, "spacing_known": True, "spacing": {}, "input_size": SIZE}
KINDS = {
    "dense": (
        Segmentation,
        BACKBONES["UNet"],
        {"kind": "segmentation", "classes": ["background", "LV blood pool"], "label_codes": [0, 3]},
    ),
    "pooled": (Regression, ConvViT, {"kind": "regression", "target": "lv_ef", "mean": 50.0, "std": 10.0}),
}


def checkpoint(kind: str, path):
    """A checkpoint as a run keeps it, and its task."""
    cls, network, facts = KINDS[kind]
    torch.manual_seed(0)
    spec = FACTS | facts | {"views": list(SIZE)}
    task = cls(spec, network=lambda **given: network(**given, size="tiny")).eval()
    hparams = {
        "_class_path": class_path(cls),
        "spec": spec,
        "network": {"class_path": class_path(network), "init_args": {"size": "tiny"}},
    }
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams}, path)
    return task


@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [pytest.param("dense", marks=pytest.mark.slow), "pooled"])
def test_a_graph_gives_the_networks_numbers_for_any_batch(kind, format, tmp_path):
    task = checkpoint(kind, tmp_path / "x.ckpt")
    out = tmp_path / "out" / f"net{graph.SUFFIXES[format]}"
    if format == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    export(tmp_path / "x.ckpt", out, format)
    about = json.loads(out.with_suffix(".json").read_text())
    assert list(about["inputs"]) == list(SIZE)
    for batch in (1, 3):
        images = {view: torch.rand(batch, 1, *size) for view, size in SIZE.items()}
        with torch.no_grad():
            wanted = task.network(images)
        if format == "torch":
            found = torch.export.load(out).module()(*images.values())
        else:
            session = runtime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
            found = session.run(about["outputs"], {view: image.numpy() for view, image in images.items()})
            found = [torch.from_numpy(values) for values in found]
        wanted = [wanted] if kind == "pooled" else [wanted[name.removesuffix("_logits")] for name in about["outputs"]]
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_graph_of_other_numbers_is_not_written(tmp_path, monkeypatch):
    checkpoint("pooled", tmp_path / "x.ckpt")
    monkeypatch.setattr(graph, "_torch", lambda program, images, path: [program.module()(*images)[0] + 0.01])
    with pytest.raises(CinemaError, match="differ from the network's by"):
        export(tmp_path / "x.ckpt", tmp_path / "net.pt2", "torch")
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]
    with pytest.raises(CinemaError, match=r"has to end in .onnx \(--format onnx\)"):
        export(tmp_path / "x.ckpt", tmp_path / "net.pt2", "onnx")
