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
from cinema_lightning.inference.pipe import Frames, Phases, Pipe, Scanned
from cinema_lightning.inference.results import Result
from cinema_lightning.inference.scans import Scans, Voxels, open_study
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
        """The plain torch module: ``forward({view: (B, C, X, Y[, Z])})``, images in [0, 1] at ``spec.spacing``.

        Raises:
            CinemaError: Of an ensemble, which has several.
        """
        if len(self._tasks) > 1:
            raise CinemaError(f"The ensemble has {len(self._tasks)} networks; load the one that you want by itself.")
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
        scanned = self.scanned(scan, spacing, affine, frames, ed, es, batch_size, geometry)
        tasks = [copy.copy(task) for task in self._tasks]  # share the networks; two scans at once do not mix
        for task in tasks:
            task.scans = scanned.study.native
        seen = Seen(
            tasks[0], self.spec, scanned.study, tuple(scanned.frames), self._outputs(tasks, scanned), probabilities
        )
        return KINDS.get(self.spec.kind, anything)(seen)

    def scanned(
        self,
        scan: Scans,
        spacing: Sequence[float] | None,
        affine: np.ndarray | None,
        frames: Frames,
        ed: int | None,
        es: int | None,
        batch_size: int,
        geometry: Geometry,
    ) -> Scanned:
        """Opens a scan at the voxel size of this network; arguments and errors as of :meth:`__call__`."""
        if batch_size < 1:
            raise CinemaError(f"batch_size is {batch_size}; give a number of frames above 0.")
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

    def _outputs(self, tasks: Sequence[Any], scanned: Scanned) -> Iterator[tuple[Any, Any, Sequence[Any]]]:
        """See :class:`~cinema_lightning.inference.gather.Seen`."""
        for batch in self.batches(scanned):
            with self.computing():
                found = [task.infer(batch) for task in tasks]
            yield (batch, found[0], ()) if len(found) == 1 else (batch, _mean(found), found)


def _mean(outputs: Sequence[Any]) -> Any:
    """The mean of what several segmentations say."""
    views = outputs[0].probabilities
    means = {view: torch.stack([one.probabilities[view] for one in outputs]).mean(dim=0) for view in views}
    return replace(outputs[0], probabilities=means)
