"""A trained network as a function of scans."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.inference.gather import KINDS, Seen, anything
from cinema_lightning.inference.pipe import Frames, Phases, Pipe
from cinema_lightning.inference.results import Result
from cinema_lightning.inference.scans import Scans, Study, Voxels, open_study
from cinema_lightning.inference.spec import ModelSpec
from cinema_lightning.models.precision import choose_float32

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Model:
    """A trained network: called on a scan it does what `cinema predict` does with the same file.

    Made by :func:`cinema_lightning.load`.

    Args:
        tasks: The task, with its network; several of an ensemble.
        spec: Its facts.
        device: Where it computes.
        precision: 32-true, bf16-mixed or 16-mixed.
    """

    def __init__(self, tasks: Sequence[Any], spec: ModelSpec, device: torch.device, precision: str) -> None:
        self._tasks = [task.eval().to(device) for task in tasks]
        self._pipe = Pipe(spec)
        self.spec = spec
        self.device = device
        self.precision = precision

    @property
    def network(self) -> nn.Module:
        """The plain torch module: ``forward({view: (B, C, X, Y[, Z])})``, images in [0, 1] at ``spec.spacing``."""
        network: nn.Module = self._tasks[0].network
        return network

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
        batch_size: int = 8,
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
            batch_size: Frames in one pass of the network.
            geometry: What to believe where a NIfTI header contradicts itself, sform or pixdim; by default neither.

        Returns:
            What was found, by kind of task: :class:`~cinema_lightning.inference.results.Segmented`, ``Landmarks``,
            ``Classified``, ``Value``, ``Risk``, or the rows alone.

        Raises:
            CinemaError: If the scan cannot be used as the network needs it.
        """
        if batch_size < 1:
            raise CinemaError(f"batch_size is {batch_size}; give a number of frames above 0.")
        study = self.open(scan, Voxels(spacing, affine), geometry)
        phases = Phases(ed, es)
        numbers = self._pipe.frames(study, phases, frames)
        tasks = [copy.copy(task) for task in self._tasks]  # share the networks; two scans at once do not mix
        for task in tasks:
            task.scans = study.native
        outputs = self._outputs(tasks, study, phases, numbers, batch_size)
        seen = Seen(tasks[0], self.spec, study, tuple(numbers), outputs, probabilities)
        return KINDS.get(self.spec.kind, anything)(seen)

    def open(self, scan: Scans, voxels: Voxels, geometry: Geometry) -> Study:
        """Opens a scan at the voxel size of this network, see :meth:`__call__`."""
        return open_study(scan, self.spec.views, self.spec.spacing, voxels=voxels, geometry=geometry)

    def _outputs(
        self, tasks: Sequence[Any], study: Study, phases: Phases, frames: Sequence[int], batch_size: int
    ) -> Iterator[tuple[Any, Any, Sequence[Any]]]:
        """See :class:`~cinema_lightning.inference.gather.Seen`."""
        for batch in self._pipe.batches(study, phases, frames, batch_size, self.device):
            with torch.no_grad(), arithmetic(self.device, self.precision):
                found = [task.infer(batch) for task in tasks]
            yield (batch, found[0], ()) if len(found) == 1 else (batch, _mean(found), found)


def _mean(outputs: Sequence[Any]) -> Any:
    """The mean of what several segmentations say."""
    views = outputs[0].probabilities
    means = {view: torch.stack([one.probabilities[view] for one in outputs]).mean(dim=0) for view in views}
    return replace(outputs[0], probabilities=means)


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """The arithmetic of `cinema predict` on a device; that of the caller comes back afterwards."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        choose_float32(training=False)
    try:
        with torch.autocast(device.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions
