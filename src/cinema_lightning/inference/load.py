"""Networks by name: a run, a checkpoint, a published file or several of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cinema_lightning import runs
from cinema_lightning.data.facts import PHANTOM, facts_of
from cinema_lightning.data.spacing import Spacing, assumed, wanted_spacing
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.inference.model import Model
from cinema_lightning.inference.spec import spec_of
from cinema_lightning.models.precision import has_fast_bf16, instead_of_bf16
from cinema_lightning.registry import BACKBONES, DATA, TASKS
from cinema_lightning.tasks.ensemble import Ensemble
from cinema_lightning.tasks.turns import Turning
from cinema_lightning.weights.files import locate
from cinema_lightning.weights.published import PUBLISHED
from cinema_lightning.weights.purpose import purpose_of
from cinema_lightning.weights.restore import load_task

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def load(
    source: str | Path | Sequence[str | Path],
    *,
    device: str | torch.device | None = None,
    precision: str | None = None,
    tta: Turning = "none",
    root: str | Path = "runs",
) -> Model:
    """Loads a trained network.

    Args:
        source: Name of a run (its newest version's best checkpoint), a run's folder, a checkpoint (.ckpt), safetensors
            in the published layout (a file, a folder, or a name on the Hugging Face hub); a list of them is an
            ensemble, whose probabilities are averaged.
        device: Where it computes; by default a GPU where there is one.
        precision: 32-true, bf16-mixed or 16-mixed; by default that of the run, as `cinema predict` takes it.
        tta: Average over turned images: flips, rotations (by quarter turns) or all eight.
        root: Folder of all runs.

    Returns:
        The network, in evaluation mode.

    Raises:
        CinemaError: If there is no such network, or it cannot be built.
    """
    for registry in (TASKS, DATA, BACKBONES):
        registry.load()
    if not isinstance(source, str | Path | list | tuple):
        raise CinemaError(
            f"A network is named by text, not by a {type(source).__name__}: give a run, a file or a list."
        )
    if precision is not None and precision not in PRECISIONS:
        raise CinemaError(f"precision is {precision!r}; it is one of {', '.join(PRECISIONS)}.")
    named = [source] if isinstance(source, str | Path) else list(source)
    if not named:
        raise CinemaError("There is no network to load: the list of them is empty.")
    paths = [find(str(name), Path(root)) for name in named]
    members = [load_task(path)[0] for path in paths]
    task = members[0] if len(members) == 1 and tta == "none" else Ensemble(members, tta, [str(path) for path in paths])
    where = _device(device)
    first = members[0]
    names = type(first).__name__, type(first.network).__name__
    known = [_known(member.spec, path) for member, path in zip(members, paths, strict=True)]
    facts = known[0] | {"phantoms": any(one["phantoms"] for one in known)}
    spec = spec_of(facts, *names, [str(path) for path in paths], _spacing(first.spec, paths[0]))
    return Model(task, spec, where, precision or _precision(paths[0], where))


def _known(facts: dict[str, Any], path: Path) -> dict[str, Any]:
    """Facts of a network, ``phantoms`` too; without the dataset that stands in for a published file's unknown one."""
    purpose = purpose_of(path) if path.suffix == PUBLISHED else {}
    unsaid = purpose and "dataset" not in purpose["data"]["init_args"] and facts["dataset"] == PHANTOM
    facts = facts | {"dataset": ""} if unsaid else facts
    return facts | {"phantoms": bool(facts.get("phantoms", facts.get("dataset") == PHANTOM))}


def find(source: str, root: Path) -> Path:
    """The file that a name stands for.

    Args:
        source: See :func:`load`.
        root: Folder of all runs.

    Returns:
        A .ckpt or safetensors file.

    Raises:
        CinemaError: If there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path) or locate(path)[0]
    if found := runs.best_of([root], source):
        return found
    if path.suffix == PUBLISHED or len(path.parts) == 2:
        return locate(source)[0]
    raise CinemaError(
        f"There is no network '{source}': it is no file, folder, name of a run under {root}, nor name on "
        "the Hugging Face hub (owner/name/file.safetensors); `cinema models` lists those that are known."
    )


def _in_folder(folder: Path) -> Path | None:
    """Best checkpoint of a run's folder, or of the newest of several; None where it is no such folder."""
    candidates = [folder, *reversed(runs.versions(folder))]
    files = (runs.checkpoint_path(run, which) for run in candidates for which in ("best", "last"))
    return next((file for file in files if file.is_file()), None)


def _spacing(spec: dict[str, Any], path: Path) -> Spacing:
    """Voxel size that scans are brought to: the network's, else its dataset's, else the published one."""
    dataset, known = spec.get("dataset"), dict(spec.get("spacing") or {})
    declared = facts_of(dataset).spacing if dataset in DATASETS else {}
    found = wanted_spacing(spec["views"], "auto", known, declared)
    if not known:
        warnings.warn(assumed(found, str(path), "put the config.yaml that says it beside them"), stacklevel=3)
    return found


def _device(name: str | torch.device | None) -> torch.device:
    """The device by its name; CinemaError where there is none."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise CinemaError(
            f"device is '{name}', which cannot be used here ({why}): leave it out, or give cpu."
        ) from None
    return device


def _precision(path: Path, device: torch.device) -> str:
    """The precision that a run was trained in, else bf16; another where the device would emulate it."""
    saved = runs.saved(path.resolve().parent.parent) if path.suffix == ".ckpt" else None
    wanted = str(((saved or {}).get("trainer") or {}).get("precision") or "bf16-mixed")
    mixed = wanted in ("bf16-mixed", "bf16", "16-mixed", "16")
    if mixed and not (has_fast_bf16(device) if wanted.startswith("bf16") else device.type == "cuda"):
        return instead_of_bf16(device)
    return {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true"}.get(wanted, wanted)
