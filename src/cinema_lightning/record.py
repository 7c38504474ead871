"""What a run keeps of its configuration, and whether another one continues it."""

from __future__ import annotations

import json
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning import runs
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.weights.compatibility import differences

FREE_KEYS = (
    "data.root",
    "data.num_workers",
    "data.prefetch_factor",
    "data.pin_memory",
    "data.batch_size",
    "data.val_batch_size",
)
"""Data options that may change between a run and its resumption; they do not change what is learnt.

The batch size is what one device can take at once: a resumed run makes the steps it began with.
"""


def saved(run: Path) -> dict[str, Any] | None:
    """The configuration that a run was last trained with; None where it keeps none."""
    *_, file = run / "config.yaml", *_resumed(run)
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else None


def _resumed(run: Path) -> list[Path]:
    """Configurations with which the run was resumed, oldest first."""
    names = (run / f"config.resumed_{number}.yaml" for number in count(1))
    return list(takewhile(Path.is_file, names))


def keep_weights(run: Path, config: Any) -> None:
    """A resumed run goes on with the weights it started from, though a run's name may mean a newer one by now.

    Args:
        run: Folder of the run.
        config: The configuration; changed in place.
    """
    options = ((saved(run) or {}).get("model") or {}).get("init_args") or {}
    if options.get("weights") is not None and config.model.init_args.get("weights") is not None:
        config.model.init_args.weights = options["weights"]


def check_same_experiment(run: Path, ours: dict[str, Any], allowed: bool) -> None:
    """Resuming continues an experiment; another one has no business in its folder, unless it was asked for.

    Args:
        run: Folder of the run that is to be resumed.
        ours: The configuration given now, plain values.
        allowed: Changes were asked for: they are said.

    Raises:
        CinemaError: If it differs in what decides the numbers.
    """
    before = saved(run)
    if before is None:
        return
    changed = [
        key
        for part in ("seed_everything", "model", "data")
        for key in differences(before.get(part), ours.get(part), part)
        if key not in FREE_KEYS
    ]
    if "model.optim.global_batch" in changed:
        raise CinemaError(
            "key 'model.optim.global_batch': a resumed run goes on with the steps that it began with; leave it as it "
            f"was in {run}, or start a new run without --ckpt_path."
        )
    if changed and allowed:
        rank_zero_info(f"The run {run} goes on with other options: {', '.join(changed)}.")
    elif changed:
        raise CinemaError(
            f"The configuration differs from the run {run} that is to be resumed in {', '.join(changed[:5])}; "
            "give the same --config options (they are kept in its config.yaml), start a new run without --ckpt_path, "
            "or go on with the changes in that run's folder: --allow_changes true."
        )


def write(run: Path, text: str) -> None:
    """Writes the full configuration and the versions; a resumed run keeps its first configuration beside.

    Args:
        run: Folder of the run.
        text: The configuration as YAML.
    """
    target = run / "config.yaml"
    if target.exists():
        resumed = _resumed(run)
        latest = resumed[-1] if resumed else target
        same = latest.read_text(encoding="utf-8") == text
        target = latest if same else run / f"config.resumed_{len(resumed) + 1}.yaml"
    versions = json.dumps(runs.software_versions(), indent=2) + "\n"
    for path, content in ((target, text), (run / "versions.json", versions)):
        with replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


class WhenItGoesOn(Callback):
    """Writes the record of a resumed run when it trains, so that one that is refused before leaves none.

    Args:
        run: Folder of the run.
        text: The configuration as YAML.
    """

    def __init__(self, run: Path, text: str) -> None:
        self.run = run
        self.text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All was accepted, and there is something left to train."""
        if trainer.is_global_zero:
            write(self.run, self.text)
