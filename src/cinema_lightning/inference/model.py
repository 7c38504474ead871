"""A trained network as a function of scans."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.inference.gather import GATHERERS, Seen, anything
from cinema_lightning.inference.pipe import Frames, Phases, Pipe, Scanned
from cinema_lightning.inference.results import Result
from cinema_lightning.inference.scans import OpenStudy, Scans, Voxels, open_study
from cinema_lightning.inference.spec import ModelSpec
from cinema_lightning.models.precision import choose_float32
from cinema_lightning.tasks.base import Task
from cinema_lightning.tasks.downstream import Downstream
from cinema_lightning.tasks.ensemble import Ensemble

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Model:
    """A trained network: called on a scan it does what `cinema predict` does with the same file.

    Made by :func:`cinema_lightning.load`.

    Args:
        task: The task, with its network, or an ensemble of tasks.
        spec: Its facts.
        device: Where it computes.
        precision: 32-true, bf16-mixed or 16-mixed.
    """

    def __init__(self, task: Task, spec: ModelSpec, device: torch.device, precision: str) -> None:
        self._task = task.eval().to(device)
        self._pipe = Pipe(spec)
        self.spec = spec
        self.device = device
        self.precision = precision

    @cached_property
    def _at_once(self) -> int:
        return self._task.samples_at_once() or 1

    @property
    def network(self) -> nn.Module:
        """The plain torch module: ``forward({view: (B, C, X, Y[, Z])})``, images in [0, 1] at ``spec.spacing``.

        Raises:
            CinemaError: Of an ensemble, which has several.
        """
        if isinstance(self._task, Ensemble) and len(self._task.members) > 1:
            raise CinemaError(f"The ensemble has {len(self._task.members)} networks; load the one that you want.")
        return self._task.alone.network

    def __call__(
        self,
        scan: Scans,
        *,
        spacing: Sequence[float] | None = None,
        affine: np.ndarray | None = None,
        frames: Frames = "all",
        ed: int | None = None,
        es: int | None = None,
        probabilities: bool = False,
        batch_size: int | None = None,
        geometry: Geometry = "refuse",
    ) -> Result:
        """Applies the network to a scan.

        The scan is resampled, scaled, tiled and batched as the network was trained, and what is found comes back on the
        scan's own grid.

        Args:
            scan: A NIfTI file (3D, or 4D with frames last), an image of nibabel or SimpleITK, an array (X, Y[, Z[, T]])
                with ``spacing`` or ``affine``, a list of them (one frame after the other), {view: any of these}, or a
                folder of <view>[_ed|_es].nii.gz. The view may be left out where the network has one.
            spacing: Voxel size x, y, z of an array, mm.
            affine: (4, 4) of an array, voxel to RAS mm.
            frames: Frames to do, counted from 0.
            ed: Frame of end-diastole, for networks that see ED and ES together; files named so need not say it.
            es: Frame of end-systole.
            probabilities: Also give the probability of each class in each voxel.
            batch_size: Frames in one pass of the network; by default as many as are of use and memory holds.
            geometry: What to believe where a NIfTI header contradicts itself, sform or pixdim; by default neither.

        Returns:
            What was found, by kind of task: :class:`~cinema_lightning.inference.results.Segmented`, ``Landmarks``,
            ``Classified``, ``Value``, ``Risk``, or the rows alone.

        Raises:
            CinemaError: If the scan cannot be used as the network needs it.
        """
        scanned = self.scanned(scan, spacing, affine, frames, ed, es, batch_size, geometry)
        task = _on(scanned.study, self._task)
        outputs = self._outputs(task, scanned)
        seen = Seen(task, self.spec, scanned.study, tuple(scanned.frames), outputs, probabilities)
        return GATHERERS.get(self.spec.kind, anything)(seen)

    def scanned(
        self,
        scan: Scans,
        spacing: Sequence[float] | None,
        affine: np.ndarray | None,
        frames: Frames,
        ed: int | None,
        es: int | None,
        batch_size: int | None,
        geometry: Geometry,
    ) -> Scanned:
        """Opens a scan at the voxel size of this network; arguments and errors as of :meth:`__call__`."""
        if batch_size is None:
            batch_size = self._at_once
        if not isinstance(batch_size, int) or batch_size < 1:
            raise CinemaError(f"batch_size is {batch_size}; give a whole number of frames above 0.")
        voxels = Voxels(spacing, affine)
        study = open_study(scan, self.spec.views, self.spec.spacing, voxels=voxels, geometry=geometry)
        phases = Phases(ed, es)
        return Scanned(study, phases, self._pipe.frames(study, phases, frames), batch_size)

    def batches(self, scanned: Scanned, *, whole: bool = True) -> Iterator[Any]:
        """Batches of a scan on this network's device, see :meth:`cinema_lightning.inference.pipe.Pipe.batches`."""
        return self._pipe.batches(scanned, self.device, whole=whole)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The arithmetic of `cinema predict`, without gradients; that of the caller comes back afterwards."""
        matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        if self.device.type == "cuda":
            choose_float32(training=False)
        lower = _AUTOCAST.get(self.precision)
        try:
            with torch.no_grad(), torch.autocast(self.device.type, lower, enabled=lower is not None):
                yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            torch.backends.cudnn.allow_tf32 = convolutions

    def _outputs(self, task: Task, scanned: Scanned) -> Iterator[tuple[Any, Any]]:
        """(batch, what the task makes of it), one after the other."""
        for batch in self.batches(scanned):
            with self.computing():
                output = task.infer(batch)
            yield batch, output


def _on(study: OpenStudy, task: Task) -> Task:
    """The task for one study; networks are shared, and two scans at once do not mix."""
    if isinstance(task, Ensemble):
        members = [_on(study, member) for member in task.members if isinstance(member, Task)]
        return Ensemble(members, task.turning, task.names).eval().to(task.device)
    own = copy.copy(task)
    if isinstance(own, Downstream):
        own.scans = study.native
    return own
