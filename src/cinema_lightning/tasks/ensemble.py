"""Several networks asked together, or one of several turned images: their average, and how far they differ.

A kind of task says what of its output may be averaged (:meth:`Task.scores`, :meth:`Task.from_scores`) and how that
turns with the image (``Task.turns_as``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
from torch import Tensor, nn

from cinema_lightning.columns import CASE, agreement_of, is_prediction, spread_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.sharing import encoding_once, share_encoders
from cinema_lightning.tasks.base import Batch, Output, Panels, Task, Volume
from cinema_lightning.tasks.downstream import Downstream
from cinema_lightning.tasks.turns import TURNS, Turn, Turning, turned, turned_back
from cinema_lightning.views import get_view
from cinema_lightning.weights.restore import load_task

Rows = list[dict[str, Any]]
SAME = (
    "kind",
    "target",
    "classes",
    "label_codes",
    "landmarks",
    "views",
    "input_size",
    "depth",
    "spacing",
    "channels",
    "channel_names",
)
"""Facts of the data that networks asked together have to share."""


@dataclass(frozen=True)
class Together:
    """What several networks say of a batch.

    Attributes:
        mean: Their average, an output of the kind.
        parts: What each says; of one network, what it says of each turned image.
    """

    mean: Output
    parts: tuple[Output, ...]


class Ensemble(Task):
    """Asks several networks, or one of several turned images, and averages: a task that can test and predict.

    Probabilities, heatmaps, risks and numbers (in their unit) are averaged; rows and cases follow from the average.
    Beside each predicted number stands the standard deviation (n - 1) of the networks' numbers, in the column
    ``<column>_sd``, and beside a predicted class the share of the networks that say so, ``<column>_agreement``. Where
    one network sees turned images these are over the turns.

    Args:
        members: Tasks with their weights, all of one kind.
        turning: Turned images that each sees: flips, rotations (by quarter turns) or all eight.
        names: What the members are called in messages, such as their files.

    Raises:
        CinemaError: If they do not belong together, or the task does not say what may be averaged.
    """

    rows_beside = True  # where its members' do

    def __init__(self, members: Sequence[Task], turning: Turning = "none", names: Sequence[str] | None = None) -> None:
        super().__init__(members[0].spec)
        if turning not in TURNS:
            raise CinemaError(f"tta is {turning}; write one of {', '.join(TURNS)}.")
        self.names = list(names or [f"network {n}" for n in range(1, len(members) + 1)])
        check_agreement(members, self.names)
        if type(members[0]).scores is Task.scores:
            members[0].scores(None)  # says why not
        self.members = nn.ModuleList(members)
        compiled = any(member.compile_network for member in members)
        self._shared = [] if compiled else share_encoders([member.network for member in members])
        self.turning = turning
        self._turns = TURNS[turning]
        if any(turn.quarters % 2 for turn in self._turns):
            _check_square(self.spec)
        self.prediction_stem = self.alone.prediction_stem
        self.prediction_grid = self.alone.prediction_grid
        self.rows_beside = self.alone.rows_beside

    def save_hyperparameters(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: an ensemble is made of checkpoints, and none is made of it."""

    @property
    def alone(self) -> Task:
        """The first network's task, which says what the average means."""
        first = self.members[0]
        assert isinstance(first, Task)
        return first

    def _tasks(self) -> list[Task]:
        return [member for member in self.members if isinstance(member, Task)]

    @property
    def specs(self) -> dict[str, dict[str, Any]]:
        """Name of each member -> the facts of the data that it was trained with."""
        return {name: task.spec for name, task in zip(self.names, self._tasks(), strict=True)}

    def setup(self, stage: str) -> None:
        """Lets the members see the trainer's data, and compile where they were asked to."""
        for member in self._tasks():
            if self._trainer is not None:
                member.trainer = self._trainer
            member.setup(stage)

    def host_steps(self) -> list[Callable[[Batch], Batch]]:
        """See :meth:`Task.host_steps`."""
        return self.alone.host_steps()

    def samples_at_once(self) -> int | None:
        """See :meth:`Task.samples_at_once`; networks and turned images go one after the other."""
        return self.alone.samples_at_once()

    # ------------------------------------------------------------------ asking
    @torch.no_grad()
    def infer(self, batch: Batch) -> Together:
        """The average of what all members say, and what each says."""
        by_turn = [self._said(batch, turn) for turn in self._turns]
        each = [said[0] for said in by_turn]
        if len(self.members) > 1:
            each = [mean_scores(turns) for turns in zip(*by_turn, strict=True)]
        outputs = tuple(self.alone.from_scores(batch, scores) for scores in each)
        return Together(self.alone.from_scores(batch, mean_scores(each)), outputs)

    def _said(self, batch: Batch, turn: Turn) -> list[dict[str, Tensor]]:
        """What each member says of turned images; an encoder that several have sees them once."""
        with encoding_once(self._shared):
            return [self._seen(member, batch, turn) for member in self._tasks()]

    def _seen(self, member: Task, batch: Batch, turn: Turn) -> dict[str, Tensor]:
        images = member.images(batch)
        shapes = {view: tuple(image.shape[2:4]) for view, image in images.items()}
        scores = member.scores(member.infer(turned(batch, images, turn)))
        return turned_back(scores, member.turns_as, batch, shapes, turn)

    # ------------------------------------------------------------------ saying
    def panels(self, batch: Batch, output: Together) -> Panels:
        """See :meth:`Task.panels`, of the average."""
        return self.alone.panels(batch, output.mean)

    def volumes(self, batch: Batch, output: Together) -> dict[str, dict[str, list[Volume]]]:
        """See :meth:`Task.volumes`, of the average."""
        return self.alone.volumes(batch, output.mean)

    def rows(self, batch: Batch, output: Together) -> Rows:
        """See :meth:`Task.rows`, with the spread of each number."""
        each = [self.alone.rows(batch, part) for part in output.parts]
        return with_spread(self.alone.rows(batch, output.mean), each, lambda name: name not in CASE)

    def cases(self, batch: Batch, output: Together) -> Rows:
        """See :meth:`Downstream.cases`, with the spread of each prediction."""
        first = self.alone
        assert isinstance(first, Downstream)
        each = [first.cases(batch, part) for part in output.parts]
        return with_spread(first.cases(batch, output.mean), each, is_prediction)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """See :meth:`Downstream.test_step`."""
        return Downstream.test_step(self, batch, batch_idx)  # type: ignore[arg-type]

    def test_rows(self, batch: Batch, output: Together) -> Rows:
        """See :meth:`Downstream.test_rows`."""
        return Downstream.test_rows(self, batch, output)  # type: ignore[arg-type]

    def facts(self) -> dict[str, Any]:
        """See :meth:`Downstream.facts`; and who was asked."""
        own = self.alone.facts() if isinstance(self.alone, Downstream) else {}
        return own | {"n_networks": len(self.members), "tta": self.turning}


def load_ensemble(
    paths: Sequence[Path], turning: Turning = "none", config: Mapping[str, Any] | None = None
) -> Ensemble:
    """Loads checkpoints, or published weights, to be asked together.

    Args:
        paths: The files.
        turning: See :class:`Ensemble`.
        config: The configuration of the command, see :func:`~cinema_lightning.weights.restore.load_task`.

    Returns:
        The ensemble, in evaluation mode.

    Raises:
        CinemaError: If one cannot be read, or they do not belong together.
    """
    members = [load_task(path, config)[0] for path in paths]
    return Ensemble(members, turning, [str(path) for path in paths]).eval()


def check_agreement(members: Sequence[Task], names: Sequence[str]) -> None:
    """Refuses networks that answer different questions, or see different images.

    Raises:
        CinemaError: For the first that differs from the first one; names what differs.
    """
    first = members[0]
    for task, name in zip(members[1:], names[1:], strict=True):
        ours, theirs = ({"depth": "padded"} | one.spec | {"task": type(one).__name__} for one in (first, task))
        differing = next((key for key in ("task", *SAME) if ours.get(key) != theirs.get(key)), None)
        if differing is not None:
            raise CinemaError(
                f"{name} cannot be averaged with {names[0]}: its {differing} is {theirs.get(differing)}, not "
                f"{ours.get(differing)}; give networks of one task, with the same classes, views and voxel size."
            )


def mean_scores(scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of tensors of the same names and shapes."""
    return {name: torch.stack([one[name] for one in scores]).mean(dim=0) for name in scores[0]}


def with_spread(rows: Rows, each: Sequence[Rows], wanted: Callable[[str], bool]) -> Rows:
    """Adds to rows how far those of the parts differ.

    Args:
        rows: Of the average.
        each: Rows of each part, in the same order.
        wanted: Columns that can differ.

    Returns:
        The rows, with ``<column>_sd`` or, for names of classes, ``<column>_agreement``.
    """
    out = []
    for number, row in enumerate(rows):
        spread: dict[str, Any] = {}
        for name in filter(wanted, row):
            values = [part[number][name] for part in each]
            if isinstance(row[name], str):
                spread[agreement_of(name)] = sum(value == row[name] for value in values) / len(values)
            else:
                known = [float(value) for value in values if value is not None]
                spread[spread_of(name)] = stdev(known) if len(known) == len(values) > 1 else None
        out.append(row | spread)
    return out


def _check_square(spec: Mapping[str, Any]) -> None:
    """A quarter turn of voxels that are not square in plane would be another image."""
    for view, spacing in (spec.get("spacing") or {}).items():
        if spacing and abs(spacing[0] - spacing[1]) > 0.01 * spacing[0]:
            raise CinemaError(
                f"tta: voxels of {get_view(view).display} are {spacing[0]:g} x {spacing[1]:g} mm, and a quarter turn "
                "needs square ones; take flips."
            )
