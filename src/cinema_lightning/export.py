"""``cinema export``: a trained network as safetensors in the layout of the published files."""

from __future__ import annotations

from pathlib import Path


def export(checkpoint: Path, out: Path) -> None:
    """Writes a pretrained network in the published layout, with a config.yaml beside it.

    Other software that reads the published files reads it too, and so does `cinema predict --ckpt_path FILE`.

    Args:
        checkpoint: Checkpoint (.ckpt) of a pretraining run.
        out: The safetensors file to write, in a folder of its own.

    Raises:
        CinemaError: If the checkpoint does not hold a masked autoencoder.
    """
    from lightning.pytorch.cli import instantiate_module

    from cinema_lightning.callbacks.checkpoint import load_checkpoint
    from cinema_lightning.compatibility import check_fits, refuse_foreign_classes
    from cinema_lightning.errors import CinemaError
    from cinema_lightning.models.weights import save_published
    from cinema_lightning.published import PUBLISHED
    from cinema_lightning.tasks import TASKS
    from cinema_lightning.tasks.pretrain import Pretrain

    TASKS.load()
    if out.suffix != PUBLISHED:
        raise CinemaError(f"--out {out}: the name of the file has to end in {PUBLISHED}.")
    content = load_checkpoint(checkpoint)
    hparams = dict(content.get("hyper_parameters") or {})
    if not str(hparams.get("_class_path", "")).endswith(f".{Pretrain.__name__}"):
        raise CinemaError(f"{checkpoint} is not a pretraining checkpoint; only masked autoencoders are exported.")
    refuse_foreign_classes(hparams, checkpoint)
    hparams.pop("_instantiator", None)
    task = instantiate_module(Pretrain, hparams)
    check_fits(task, checkpoint)
    task.load_state_dict(content["state_dict"])
    save_published(task.network, out, task.spec.get("spacing"))
    print(f"Written: {out}")
