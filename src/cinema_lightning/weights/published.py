"""Published weights in the place of a checkpoint of ours: what task they are for, and with which facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from cinema_lightning.data.facts import facts_of
from cinema_lightning.datasets.base import CINE_LABELS, DATASETS, Dataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.registry import BACKBONES, TASKS, class_path
from cinema_lightning.views import get_view
from cinema_lightning.weights.files import config_spacing, load_published_mae, locate, read_note, read_shapes
from cinema_lightning.weights.finetuned import is_finetuned, load_finetuned, network_arguments, trained_on

PUBLISHED = ".safetensors"
"""Ending of published weights."""
GIVEN = ("views", "input_size", "channels", "classes", "outputs")
"""Arguments of a network that a task gives it."""


def published_network(path: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hyperparameters and weights of a published network, as a checkpoint of ours would hold them.

    Args:
        path: The safetensors file, a ``config.yaml`` beside it where there is one.
        config: The configuration of the command, which says what task a fine-tuned network is for.

    Returns:
        (hyperparameters of the task, state dict of its network).

    Raises:
        CinemaError: If the file is of another layout, or does not fit the task.
    """
    if not is_finetuned(read_shapes(path)):
        return _published_mae(path)
    note = read_note(path)
    return _exported(path, note) if "task" in note else _published_finetuned(path, config)


def _published_mae(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    network = load_published_mae(path)
    given = ("views", "input_size", "channels")
    options = {key: value for key, value in network.config.items() if key not in given}
    sizes = network.config["input_size"] or {}
    spec = {
        "views": list(network.views),
        "input_size": {view: list(sizes.get(view, get_view(view).input_size)) for view in network.views},
        "channels": network.config["channels"],
        "spacing": _spacing(locate(path)[1], network.views),
        **{key: depth for key, depth in read_note(path).items() if key == "depth"},
    }
    hparams = {
        "_class_path": class_path(TASKS["Pretrain"]),
        "spec": spec,
        "network": {"class_path": class_path(MaskedAutoencoder), "init_args": options},
    }
    return hparams, network.state_dict()


def _exported(path: Path, note: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A network that :func:`cinema_lightning.weights.export.export` wrote, as its checkpoint held it."""
    network, _ = load_finetuned(path)
    task, backbone = TASKS[str(note["task"])], BACKBONES[type(network).__name__]
    hparams = {
        **(note.get("options") or {}),
        "_class_path": class_path(task),
        "spec": note["spec"],
        "network": {
            "class_path": class_path(backbone),
            "init_args": {key: value for key, value in note["network"]["arguments"].items() if key not in GIVEN},
        },
    }
    return hparams, network.state_dict()


def _published_finetuned(path: Path, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    model, data = config.get("model") or {}, (config.get("data") or {}).get("init_args") or {}
    name = str(model.get("class_path", "")).rsplit(".", 1)[-1]
    task: Any = next((TASKS[known] for known in TASKS if known == name), None)
    if not hasattr(task, "kind"):
        raise CinemaError(
            f"{path} holds a fine-tuned network, but the configuration is for {name or 'no task'}: give the --config "
            "of the task that it was trained for, such as --config acdc_seg.yaml."
        )
    network, facts = load_finetuned(path)
    if caution := facts.get("caution"):
        rank_zero_warn(str(caution))
    _, config_path = locate(path)
    dataset = facts_of(data.get("dataset"), data.get("root") or "")
    spec = {
        "views": list(network.views),
        "input_size": {view: list(size) for view, size in network.input_size.items()},
        "channels": facts["channels"],
        "channel_names": ["image"] if facts["channels"] == 1 else [f"channel {i}" for i in range(facts["channels"])],
        "kind": task.kind,
        "dataset": trained_on(path, config_path) or dataset.name,
        "spacing_known": True,
        "spacing": _spacing(config_path, network.views),
        **task.published(PublishedFile(path, facts, data, dataset)),
    }
    arguments = network_arguments(config_path, read_shapes(path), facts)
    backbone = BACKBONES[facts["network"]]
    hparams = {
        "_class_path": class_path(task),
        "spec": spec,
        "network": {
            "class_path": class_path(backbone),
            "init_args": {key: value for key, value in arguments.items() if key not in GIVEN},
        },
    }
    return hparams, network.state_dict()


def _spacing(config: Path | None, views: Iterable[str]) -> dict[str, list[float]]:
    """Voxel size that the network was trained at, by view; views that its configuration does not name are left out."""
    return {view: size for view, size in config_spacing(config).items() if view in set(views)}


@dataclass(frozen=True)
class PublishedFile:
    """A published file, as the tasks read what its outputs are: from its own facts, or from the dataset's.

    Attributes:
        path: The safetensors file.
        facts: What is known of its network: network, outputs, and what its configuration says of classes, target,
            landmarks, mean and SD.
        options: Options of the command's data.
        dataset: The dataset in use.
    """

    path: Path
    facts: dict[str, Any]
    options: dict[str, Any]
    dataset: Dataset

    def option(self, name: str, default: str) -> str:
        """An option of the command's data."""
        return str(self.options.get(name) or default)

    def labels(self) -> dict[int, str]:
        """Code -> class of the label maps, in the order of the outputs: the file's classes in the dataset's codes."""
        outputs, own = int(self.facts["outputs"]), {name: code for code, name in self.dataset.labels.items()}
        names = self.facts.get("class_names")
        if names is None:
            source = self._source()
            labels = source.labels or CINE_LABELS  # those of the published networks
            names = [labels[code] for code in sorted(labels)]
            self.check_outputs(len(names), f"{source.display} has {len(source.labels) or 'no'} classes of voxels")
            self._say_assumed(names)
        if own.keys() == set(names):
            return {own[name]: name for name in names}
        return dict(zip(self.facts.get("label_codes") or range(outputs), names, strict=True))

    def class_names(self, target: str) -> list[str]:
        """The file's own classes, or those that the dataset declares for a column."""
        if names := self.facts.get("class_names"):
            return list(names)
        classes = self._source().classes
        if target not in classes:
            raise CinemaError(f"{self.path} does not say its classes; put its config.yaml beside it.")
        self._say_assumed(classes[target])
        return list(classes[target])

    def check_outputs(self, wanted: int, why: str) -> None:
        """Refuses a file with another number of outputs."""
        if (outputs := int(self.facts["outputs"])) != wanted:
            raise CinemaError(
                f"{self.path} has {outputs} outputs, but {why}: give the configuration of the task and dataset that it "
                "was trained for."
            )

    def _source(self) -> Dataset:
        """The dataset that it was trained on; where it does not say, the one in use."""
        name = trained_on(self.path, locate(self.path)[1])
        return facts_of(name) if name in DATASETS else self.dataset

    def _say_assumed(self, names: Sequence[str]) -> None:
        rank_zero_warn(f"{self.path} does not say its classes; they are taken to be {', '.join(names)}, in this order.")
