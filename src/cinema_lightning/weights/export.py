"""``cinema export``: a trained network as safetensors in the layout of the published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_TRAINING_ONLY = ("weights", "layer_decay", "freeze", "lora", "optim", "compile")


def export(checkpoint: Path, out: Path) -> None:
    """Writes a trained network in the published layout, with a config.yaml beside it.

    Pretrained networks and those fine-tuned from them (ConvUNetR, ConvViT), LoRA adapters folded in. Other software
    that reads the published files reads them too, and so do `cinema test` and `cinema predict --ckpt_path FILE`.

    Args:
        checkpoint: Checkpoint (.ckpt) of a run.
        out: The safetensors file to write, in a folder of its own.

    Raises:
        CinemaError: If the checkpoint holds another network, which has no published counterpart.
    """
    from cinema_lightning.errors import CinemaError
    from cinema_lightning.models.lora import merge_lora
    from cinema_lightning.weights.files import save_published
    from cinema_lightning.weights.published import PUBLISHED
    from cinema_lightning.weights.restore import load_task

    if out.suffix != PUBLISHED:
        raise CinemaError(f"--out {out}: the name of the file has to end in {PUBLISHED}.")
    task, hparams = load_task(checkpoint)
    _refuse(task.network, checkpoint)
    if merged := merge_lora(task.network):
        print(f"LoRA: {merged} adapters were folded into the weights that they adapt.")
    save_published(task.network, out, task.spec.get("spacing"), _about(task, hparams))
    print(f"Written: {out}")


def _refuse(network: Any, checkpoint: Path) -> None:
    """Refuses what the published layout cannot say."""
    from cinema_lightning.errors import CinemaError
    from cinema_lightning.weights.published_config import PUBLISHABLE

    if type(network) not in PUBLISHABLE:
        names = ", ".join(kind.__name__ for kind in PUBLISHABLE)
        raise CinemaError(
            f"{checkpoint} holds a {type(network).__name__}, which the published layout has no place for; {names} can "
            "be exported. Give this one to others as its .ckpt file."
        )
    if (variant := getattr(network, "variant", "all")) != "all":
        raise CinemaError(
            f"{checkpoint} holds a ConvViT of the variant '{variant}', which the published layout cannot say: its "
            "readers would take the heads that were not trained as well. Give this one to others as its .ckpt file."
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
            "arguments": {key: value for key, value in arguments.items() if key not in GIVEN},
        },
        "options": {key: value for key, value in hparams.items() if key not in hidden},
    }
