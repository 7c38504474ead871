"""``cinema export``: a trained network as safetensors in the layout of the published files, or as a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

_TRAINING_ONLY = ("weights", "layer_decay", "freeze", "lora", "optim", "compile", "deep_supervision")


def export(checkpoint: Path, out: Path, format: Literal["safetensors", "torch", "onnx"] = "safetensors") -> None:
    """Writes a trained network for others, LoRA adapters folded in.

    As safetensors in the published layout, with a config.yaml beside: pretrained networks and those fine-tuned from
    them (ConvUNetR, ConvViT). Other software that reads the published files reads them too, and so do `cinema test` and
    `cinema predict --ckpt_path FILE`. As a graph that runs without this package (torch.export, ONNX), with what goes in
    and comes out as JSON beside: any network, checked against itself.

    Args:
        checkpoint: Checkpoint (.ckpt) of a run.
        out: The file to write: .safetensors, in a folder of its own; .pt2 (torch) or .onnx.
        format: What to write.

    Raises:
        CinemaError: If the checkpoint holds a network that cannot be written so.
    """
    from cinema_lightning.errors import CinemaError
    from cinema_lightning.models.lora import merge_lora
    from cinema_lightning.weights.files import save_published
    from cinema_lightning.weights.graph import SUFFIXES, write_graph
    from cinema_lightning.weights.published import PUBLISHED
    from cinema_lightning.weights.restore import load_task

    suffix = SUFFIXES.get(format, PUBLISHED)
    if out.suffix != suffix:
        raise CinemaError(f"--out {out}: the name of the file has to end in {suffix} (--format {format}).")
    task, hparams = load_task(checkpoint)
    if format == "safetensors":
        _refuse(task.network, checkpoint)
    if merged := merge_lora(task.network):
        print(f"LoRA: {merged} adapters were folded into the weights that they adapt.")
    if format == "safetensors":
        save_published(task.network, out, task.spec.get("spacing"), _about(task, hparams))
    else:
        off = write_graph(task, out, format)
        print(f"The graph's outputs are the network's to {off:.1g}, relative to the largest.")
    print(f"Written: {out}")


def _refuse(network: Any, checkpoint: Path) -> None:
    """Refuses what the published layout cannot say."""
    from cinema_lightning.errors import CinemaError
    from cinema_lightning.weights.published_config import PUBLISHABLE

    if type(network) not in PUBLISHABLE:
        names = ", ".join(cls.__name__ for cls in PUBLISHABLE)
        raise CinemaError(
            f"{checkpoint} holds a {type(network).__name__}, which the published layout has no place for; {names} can "
            "be exported. Give this one to others as its .ckpt file."
        )
    if (variant := getattr(network, "variant", "all")) != "all":
        raise CinemaError(
            f"{checkpoint} holds a ConvViT of the variant '{variant}', which the published layout cannot say: its "
            "readers would take the heads that were not trained as well. Give this one to others as its .ckpt file."
        )
    if (norm := getattr(network, "norm", "layer")) != "layer":
        raise CinemaError(
            f"{checkpoint} holds a ConvUNetR with {norm} norms in its decoder, which the published layout cannot say: "
            "its readers would take layer norms for them and give other masks. Give this one to others as its .ckpt "
            "file, or as a graph (--format torch, onnx)."
        )


def _about(task: Any, hparams: dict[str, Any]) -> dict[str, Any]:
    """What the file notes of the task, from the hyperparameters of its checkpoint."""
    from cinema_lightning.weights.published import GIVEN

    network = hparams.get("network")
    arguments = (network.get("init_args") or {}) if isinstance(network, dict) else {}
    hidden = ("_class_path", "spec", "network", *_TRAINING_ONLY)
    return {
        "task": type(task).__name__,
        "spec": hparams["spec"],
        "network": {
            "name": type(task.network).__name__,
            "arguments": {key: value for key, value in arguments.items() if key not in (*GIVEN, *_TRAINING_ONLY)},
        },
        "options": {key: value for key, value in hparams.items() if key not in hidden},
    }
