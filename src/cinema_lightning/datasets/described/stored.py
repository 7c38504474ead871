"""The description that a store keeps beside its table, so that own data is known by its name wherever it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cinema_lightning.datasets.base import DATASETS, Dataset
from cinema_lightning.datasets.described.datalist import content_of
from cinema_lightning.datasets.described.parse import parse, read_description
from cinema_lightning.datasets.described.reader import DescribedDataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

STORED = "dataset.yaml"
"""Name of the description in a store."""
TABLE = "cohort.csv"
"""What makes a folder a store."""


def is_description(name: str) -> bool:
    """Whether what stands in the place of a dataset's name is the path of a description."""
    return Path(name).suffix.lower() in (".yaml", ".yml", ".json") or len(Path(name).parts) > 1


def described(path: Path, view: str | None = None, phases: Sequence[str] = ()) -> DescribedDataset:
    """Own data by the path of its description.

    Args:
        path: A YAML, nnU-Net's dataset.json, or a datalist.
        view: Of a JSON, the view of its images; the short axis where none is given.
        phases: Of a JSON, how file names call ED and ES.

    Returns:
        The dataset.

    Raises:
        CinemaError: If there is no such file, or something in it cannot be; names file and key.
    """
    if not path.is_file():
        raise CinemaError(
            f"There is no description {path}: give the path of a YAML, a dataset.json or a datalist; `cinema prepare "
            "--guess DIR` writes a first one."
        )
    if path.suffix.lower() == ".json":
        return DescribedDataset(parse(content_of(path, view or "sax", phases), str(path)))
    if view is not None or phases:
        raise CinemaError(f"--view and --phases are for a JSON; {path} says both itself (views, phases).")
    return DescribedDataset(read_description(path))


def in_store(root: Path) -> DescribedDataset | None:
    """The own data that a store holds; None where it is of a registered dataset, or no store."""
    path = Path(root) / STORED
    kept = path.is_file() and path.with_name(TABLE).is_file()
    return DescribedDataset(read_description(path)) if kept else None


def dataset_of(name: str, root: Path) -> Dataset:
    """A dataset by its name: own data that a store holds, or one that is registered.

    Args:
        name: The name.
        root: Folder of the store.

    Returns:
        The dataset.

    Raises:
        CinemaError: If there is no such dataset, or the store holds other own data.
    """
    own = in_store(root)
    if own is None:
        if name in DATASETS:
            return DATASETS[name]
        raise CinemaError(
            f"There is no dataset called '{name}': {root} holds no {STORED}, which a store of own data has, and "
            f"known by name are {', '.join(DATASETS)}."
        )
    if name != own.name:
        raise CinemaError(f"{root} was made of '{own.name}', not of '{name}': name that, or give the other store.")
    return own


def check_store(dataset: Dataset, out: Path) -> None:
    """Refuses to prepare into the store of other data; CinemaError."""
    own = in_store(out)
    name = dataset.name if isinstance(dataset, DescribedDataset) else ""
    if own is not None and own.name != dataset.name:
        raise CinemaError(f"{out} holds '{own.name}', not '{dataset.name}': give another --out.")
    if own is None and name and (out / TABLE).is_file():
        raise CinemaError(f"{out} holds a store of other data than '{name}': give another --out.")


def keep(dataset: Dataset, out: Path) -> None:
    """Writes the description of own data beside the table."""
    import yaml

    if not isinstance(dataset, DescribedDataset):
        return
    content = json.loads(json.dumps(dict(dataset.description.content)))  # plain values, each written out
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    with replacing(out / STORED) as temporary:
        temporary.write_text(f"# What this store was made by ({dataset.source}).\n{text}", encoding="utf-8")
