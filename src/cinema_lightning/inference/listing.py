"""Networks that there are: the published ones, and those of runs on this disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cinema_lightning import runs as run_folders
from cinema_lightning.data.spacing import in_words
from cinema_lightning.errors import CinemaError
from cinema_lightning.inference.spec import ModelSpec, spec_of
from cinema_lightning.registry import BACKBONES, DATA, TASKS
from cinema_lightning.views import get_view
from cinema_lightning.weights.catalogue import SEEDS, published_networks
from cinema_lightning.weights.compatibility import buildable
from cinema_lightning.weights.files import load_checkpoint


def networks(root: str | Path = "runs") -> list[ModelSpec]:
    """Networks that :func:`cinema_lightning.load` takes: the published ones, and the newest of each run.

    Args:
        root: Folder of all runs.

    Returns:
        Their facts; ``source`` is the name to load.
    """
    return [*_published(), *(spec for spec in _local(Path(root)) if isinstance(spec, ModelSpec))]


def list_models(runs: Path = Path("runs")) -> None:
    """Lists the published networks and those of the runs on this disk, with what they need and give.

    Args:
        runs: Folder of all runs.
    """
    rows = [(_shown(spec.source[0]), *_needs_and_gives(spec)) for spec in _published()]
    print("\n".join(_table(("published", "needs", "gives", "trained on"), rows)))
    print(f"\nEach fine-tuned one has the seeds {', '.join(map(str, SEEDS))}.\n")
    local, broken = [], []
    for found in _local(runs):
        if isinstance(found, ModelSpec):
            local.append((found.source[0], *_needs_and_gives(found)))
        else:
            broken.append(str(found))
    if local:
        print("\n".join(_table((f"runs under {runs}", "needs", "gives", "trained on"), local)))
    else:
        print(f"There is no trained run under {runs}.")
    print("\n".join(["", *broken] if broken else []))
    print("Use: cinema_lightning.load(NAME)(scan), or cinema test and predict with --ckpt_path NAME.")


def _published() -> Iterator[ModelSpec]:
    for name, task, network, facts in published_networks():
        yield spec_of(facts, task, network, [name])


def _local(root: Path) -> Iterator[ModelSpec | CinemaError]:
    """The newest trained version of each run; of one that cannot be read, why not."""
    for registry in (TASKS, DATA, BACKBONES):
        registry.load()
    folders = sorted({path.parent.parent.parent for path in root.glob("**/checkpoints/*.ckpt")})
    for folder in folders:
        path = run_folders.best_of([folder.parent], folder.name)
        if path is None:
            continue
        try:
            hparams = buildable(load_checkpoint(path, mmap=True)["hyper_parameters"], path)
            network = hparams.get("network")
            name = str(network.get("class_path") if isinstance(network, dict) else network or "")
            task = str(hparams["_class_path"])
            yield spec_of(hparams["spec"], _last(task), _last(name), [folder.relative_to(root).as_posix()])
        except CinemaError as error:
            yield error


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _shown(name: str) -> str:
    """A published name, its seed left out."""
    return name.replace(f"_{SEEDS[0]}.safetensors", "_SEED.safetensors")


def _needs_and_gives(spec: ModelSpec) -> tuple[str, str, str]:
    """What a network needs and gives, and what it was trained on, in words."""
    views = []
    for view in spec.views:
        size = spec.spacing.get(view)
        views.append(get_view(view).display + (f" {in_words(size)} mm" if size else ""))
    frames = "" if spec.channels == ("image",) else f"; {' and '.join(spec.channels)}"
    target = f" of {spec.target}" + (f" ({spec.unit})" if spec.unit else "") if spec.target else ""
    names = ", ".join(name for name in (*spec.classes.values(), *spec.landmarks) if name != "background")
    gives = f"{spec.kind}{target}" + (f": {names}" if names else "")
    return ", ".join(views) + frames, gives, spec.trained_on


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) for row in (head, *rows))
    return [line.rstrip() for line in lines]
