"""Data modules: from a folder to batches on the device."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from cinema_lightning.data import DATA
from cinema_lightning.data.dataset import FrameDataset, Prepared, Step
from cinema_lightning.data.evaluation import Evaluation, Split
from cinema_lightning.data.loader import BatchLoader
from cinema_lightning.data.nifti import NiftiReader
from cinema_lightning.data.resume import Layout, between_epochs, limited, position
from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.sending import RoomToSend, end_if_unsent
from cinema_lightning.data.spacing import (
    Option,
    Spacing,
    check_spacing,
    checked_option,
    plain_spacing,
    spacing_here,
    wanted_spacing,
)
from cinema_lightning.data.splits import limit_subjects, split_rows
from cinema_lightning.data.table import Cohort, mask_of, read_cohort
from cinema_lightning.data.transforms import PLAN, Fit, PretrainAugment
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.views import VIEWS, get_view


class CineDataModule(Evaluation, L.LightningDataModule):
    """Cohort, splits, samplers, loaders and the device-side transform: what all data modules share.

    A subclass says how training batches are transformed (:meth:`train_transform`) and may replace the dataset
    (:meth:`make_dataset`) and the transform of everything else (:meth:`eval_transform`).

    Args:
        root: Folder of the data: a store made by `cinema prepare` or `cinema phantom`, or plain NIfTI files named
            <id>/<view>[_<suffix>].nii.gz.
        views: Views to use. A study is used with those of them that it has.
        input_size: Size of the network's input in voxels by view name, e.g. {sax: [192, 192, 16]}; views that are not
            named keep the published size.
        spacing: Voxel size in mm that plain NIfTI files are brought to: that at which the network was trained, and in
            training the dataset's or the published one (auto); each scan's own (own); or by view, e.g.
            {sax: [1, 1, 10]}. A store is used as it is, and refused where the network was trained at another size;
            own says that this is meant.
        geometry: What to believe of a plain NIfTI file whose sform says another voxel size than its pixdim: sform or
            pixdim; by default it is refused.
        batch_size: Samples per device and step. Halved, with a warning, where the training set is smaller.
        val_batch_size: Samples per device in validation, test and prediction; the batch size where not given.
        num_workers: Processes per device that read files; 0 reads in the main process.
        prefetch_factor: Batches that each worker reads ahead.
        pin_memory: Read into page-locked memory, where there is a GPU.
        val_fraction: Share of the subjects that validate, where the table does not say who does.
        min_views: Studies with fewer of the views are left out.
        limit_subjects: Train on this many subjects only, drawn with the seed.
        augment: Augment training batches.
        seed: Keys the split and every random draw; by default the run's seed (seed_everything), else 0.
        predict_split: Which studies to predict.
        predict_frames: Which frames to predict: all, the two named ED and ES in the table (ed_es), or a list of
            numbers from 0.

    Attributes:
        cohort: The table, after setup.
        rows: Row numbers of the cohort by split, after setup.
        train_sampler: Order of the training batches, after setup for fit; ``skip`` and ``set_epoch`` serve a resume.
        overfit: Every epoch repeats the batches and draws of the first one (``trainer.overfit_batches``).
        n_train: Number of training samples, after setup.
    """

    cohort: Cohort
    rows: dict[str, np.ndarray]
    test_fraction: float = 0.0

    def __init__(
        self,
        root: str,
        views: list[str] = list(VIEWS),  # noqa: B006  (shown by --help; never changed)
        input_size: dict[str, list[int]] | None = None,
        spacing: Option = "auto",
        geometry: Geometry = "refuse",
        batch_size: int = 16,
        val_batch_size: int | None = None,
        num_workers: int = 4,
        prefetch_factor: int = 2,
        pin_memory: bool = True,
        val_fraction: float = 0.1,
        min_views: int = 1,
        limit_subjects: int | None = None,
        augment: bool = True,
        seed: int | None = None,
        predict_split: Literal["all", "train", "val", "test"] = "all",
        predict_frames: Literal["all", "ed_es"] | list[int] = "all",
    ) -> None:
        super().__init__()
        self.root = root
        self.views = _checked_views(views)
        self.input_size = _checked_sizes(self.views, input_size)
        self.spacing = checked_option(spacing)
        self.geometry: Geometry = geometry
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = _at_least(0, "num_workers", num_workers)
        self.prefetch_factor = _at_least(1, "prefetch_factor", prefetch_factor)
        self.pin_memory = pin_memory
        self.val_fraction = val_fraction
        self.min_views = min_views
        self.limit_subjects = limit_subjects
        self.augment = augment
        self.seed = seed
        self.predict_split = predict_split
        self.predict_frames = predict_frames
        self.train_sampler: ViewGroupSampler | None = None
        self.overfit = False
        self._trained_at: dict[str, Any] | None = None
        self._ready = False
        self._resume: tuple[int, int] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """Facts that the network is built from, plain types only: views, input_size, spacing and channels.

        ``spacing`` is the voxel size in mm by view, None where images keep their own; it takes a look at the data.
        """
        if not self._ready and Path(self.root).is_dir():  # a missing folder is setup's to refuse
            self._open()
        sizes = {view: list(size) for view, size in self.input_size.items()}
        spacing = plain_spacing(self._spacing_here() if self._ready else self._wanted_spacing())
        return {"views": list(self.views), "input_size": sizes, "spacing": spacing, "channels": 1}

    @property
    def dataset_spacing(self) -> dict[str, Any]:
        """Voxel sizes that the dataset declares where they are not the views' own; None keeps each image's."""
        return {}

    @property
    def run_seed(self) -> int:
        """The seed given, else the run's, else 0."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return len(self.samples("train")[0])

    def follow(self, spec: dict[str, Any], stage: str = "test") -> None:
        """Makes the data use a checkpoint's facts instead of its own; before setup.

        Args:
            spec: What the checkpoint was trained with.
            stage: validate, test or predict.
        """
        self.views = list(spec["views"])
        self.input_size = {view: tuple(size) for view, size in spec["input_size"].items()}
        self._trained_at = dict(spec.get("spacing") or {})
        self._ready = False

    # What subclasses may replace.

    def samples(self, split: Split) -> tuple[np.ndarray, np.ndarray | None]:
        """The samples of a split: their rows of the cohort, and their frames; None draws a frame at each visit."""
        return self.rows[split], None

    def make_dataset(self) -> FrameDataset:
        """The dataset, of all rows of the cohort; samplers say which are used."""
        return FrameDataset(self.cohort.ids, self.cohort.reader, self.run_seed, str(self.cohort.source))

    def train_transform(self) -> Fit:
        """The device-side transform of training batches."""
        return self.eval_transform()

    def eval_transform(self) -> Fit:
        """The device-side transform of all other batches."""
        return Fit(self.input_size, self.run_seed)

    # Lightning's hooks.

    def setup(self, stage: str | None = None) -> None:
        """Reads the table, splits it, and orders the training batches.

        Args:
            stage: fit, validate, test or predict; None for all.

        Raises:
            CinemaError: If there is no data, none for this stage, or of another voxel size than the network's.
        """
        if not self._ready:
            self._open()
        check_spacing(self.cohort, self._spacing_here, self._trained_at, self.spacing)
        if stage in ("fit", None):
            if self.n_train == 0:
                raise CinemaError(
                    f"{self.cohort.source} has no training studies; see its split column and val_fraction."
                )
            self.batch_size = self._order_training().batch_size

    def set_batch_size(self, batch_size: int) -> None:
        """Orders the training samples in smaller or larger batches, after setup; the other splits keep theirs."""
        self.val_batch_size = self.val_batch_size or self.batch_size
        self.batch_size = batch_size
        self.batch_size = self._order_training().batch_size

    def _order_training(self, cuts: int = 1) -> ViewGroupSampler:
        rows, frames = self.samples("train")
        self.train_sampler = self._sampler(rows, self.batch_size, shuffle=True, frames=frames, cuts=cuts)
        self.train_sampler.pinned = self.overfit
        return self.train_sampler

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of shuffled training samples."""
        if self.train_sampler is None:
            self.setup("fit")
        assert self.train_sampler is not None
        if self.train_sampler.batch_size != self.batch_size:  # a BatchSizeFinder tries another one
            self._order_training()
        if self._resume is not None:
            epoch, self.train_sampler.skip = self._resume
            self.train_sampler.set_epoch(epoch)
            self._resume = None
            if self.trainer is not None:
                between_epochs(self.trainer)
        return self._loader(self.train_sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of all validation samples in a fixed order; no loader where there are none."""
        rows, frames = self.samples("val")
        return self._loader(self._eval_sampler(rows, frames)) if len(rows) else []

    def state_dict(self) -> dict[str, Any]:
        """Where the next training batch is, so that a resumed run goes on there, also in the middle of an epoch.

        Lightning keeps the state of loaders too, but gives it back in the middle of an epoch only, and otherwise
        starts the first resumed epoch before it says which one it is.
        """
        epoch, batches = (0, 0) if self.trainer is None else position(self.trainer)
        state: dict[str, Any] = {"epoch": epoch, "batches": batches, "samples": self._fingerprint()}
        if self.trainer is not None and self.train_sampler is not None:
            state["layout"] = asdict(self._layout(self.trainer, self.train_sampler))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts the next training loader there, with the steps of the saved run, whatever the number of devices.

        Raises:
            CinemaError: If the training samples are others than when the state was saved, or the devices cannot make
                the same steps.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return  # Lightning restores for test and predict too, whose data are meant to be others
        if state_dict.get("samples", self._fingerprint()) != self._fingerprint():
            raise CinemaError(
                f"The training studies of {self.root} are others than those of the run that is to be resumed; give the "
                "same data, or start a new run without --ckpt_path."
            )
        batches, trainer = state_dict["batches"], self.trainer
        if not (batches or state_dict["epoch"]):  # nothing was trained, as where one of Lightning's finders went back
            return
        trial = trainer is None or trainer.fast_dev_run  # type: ignore[attr-defined]
        if "layout" in state_dict and not trial and trainer is not None and self.train_sampler is not None:
            before = Layout(**state_dict["layout"])
            batches = batches * before.at_once // self._keep_layout(before, trainer, self.train_sampler).at_once
        self._resume = (state_dict["epoch"], batches)

    def _layout(self, trainer: L.Trainer, sampler: ViewGroupSampler) -> Layout:
        """How samples become batches and steps now."""
        step = sampler.at_once * trainer.accumulate_grad_batches
        return Layout(sampler.planned, sampler.at_once, step, limited(trainer, len(sampler)))

    def _keep_layout(self, before: Layout, trainer: L.Trainer, sampler: ViewGroupSampler) -> Layout:
        """Makes the steps of the run that is resumed: its batches are cut for the devices at hand."""
        now = self._layout(trainer, sampler)
        kept = before.on(trainer.world_size, self.batch_size)
        if kept.at_once == before.at_once and kept.planned == now.planned and kept.epoch != now.epoch:
            raise CinemaError(
                f"An epoch of the run to be resumed has {kept.epoch} batches, and now {now.epoch}: give the "
                "trainer.limit_train_batches and trainer.accumulate_grad_batches that it was started with."
            )
        if kept == now:
            return kept
        if kept.at_once != before.at_once and getattr(trainer.lightning_module, "compares_samples", False):
            raise CinemaError(
                f"The loss compares the {before.at_once} samples of a batch with each other, so that the run cannot be "
                f"resumed in smaller ones: data.batch_size times the number of devices has to be {before.at_once}."
            )
        self.batch_size = kept.at_once // trainer.world_size
        self._order_training(kept.planned // kept.at_once)
        assert self.train_sampler is not None
        trainer.accumulate_grad_batches = kept.step // kept.at_once
        if kept.epoch != len(self.train_sampler):
            trainer.limit_train_batches = kept.epoch
        rank_zero_info(
            f"Goes on with the steps of {kept.step} samples that the run began with: {trainer.accumulate_grad_batches} "
            f"batches of {self.batch_size} on {trainer.world_size} device(s) make one."
        )
        return kept

    def _fingerprint(self) -> str:
        """A digest of who trains, and with which views."""
        if not self._ready:
            return ""
        rows = self.rows["train"]
        lines = (f"{name} {mask}" for name, mask in zip(self.cohort.ids[rows], self._masks[rows], strict=True))
        return hashlib.blake2b("/".join(lines).encode("utf-8"), digest_size=8).hexdigest()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Plans what no worker has planned: batches of a loader that is not this module's."""
        return self._transform(self._training).prepare(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augments, scales, crops and pads, on the device; the workers have drawn what is random and decided shapes."""
        return self._transform(self._training).apply(batch) if PLAN in batch else batch

    @property
    def _training(self) -> bool:
        return self.trainer is not None and self.trainer.training

    def _transform(self, training: bool) -> Fit:
        return self.train_transform() if training and self.augment else self.eval_transform()

    def _host_steps(self, training: bool) -> list[Step]:
        """What workers add to a batch: the transform's plan, and what the task asks for."""
        task = self.trainer.lightning_module if self.trainer is not None else None
        steps = getattr(task, "host_steps", list)
        return [self._transform(training).prepare, *steps()]

    def _open(self) -> None:
        self.cohort = read_cohort(self.root, self.views, self._wanted_spacing(), self.geometry)
        # The masks of the views asked for; other views are as if they were not there.
        self._masks = self.cohort.view_masks & np.uint8(mask_of(self.views))
        splits = split_rows(self.cohort, self.val_fraction, self.run_seed, self.test_fraction)
        self.rows = {split: self._usable(rows) for split, rows in splits.items()}
        unusable = sum(len(rows) for rows in splits.values()) - sum(len(rows) for rows in self.rows.values())
        if unusable:
            warnings.warn(
                f"{self.cohort.source}: {unusable} studies have fewer than {max(self.min_views, 1)} of the views "
                f"{', '.join(self.views)} and are left out.",
                stacklevel=3,
            )
        if not any(len(rows) for rows in self.rows.values()):
            raise CinemaError(
                f"No study of {self.cohort.source} has {max(self.min_views, 1)} of the views {', '.join(self.views)}; "
                "ask for other views or set min_views lower."
            )
        if self.limit_subjects is not None:
            self.rows["train"] = limit_subjects(self.cohort, self.rows["train"], self.limit_subjects, self.run_seed)
        self._ready = True

    def _wanted_spacing(self) -> Spacing:
        return wanted_spacing(self.views, self.spacing, self._trained_at, self.dataset_spacing)

    def _spacing_here(self) -> Spacing:
        return spacing_here(self.cohort, self._masks, self.views, self.dataset_spacing)

    def _usable(self, rows: np.ndarray) -> np.ndarray:
        counts = np.array([mask.bit_count() for mask in range(256)])[self._masks[rows]]
        return rows[counts >= max(self.min_views, 1)]

    def _sampler(
        self, rows: np.ndarray, batch_size: int, *, shuffle: bool, frames: np.ndarray | None = None, cuts: int = 1
    ) -> ViewGroupSampler:
        world_size, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        return ViewGroupSampler(
            rows,
            self._masks[rows],
            batch_size=batch_size,
            seed=self.run_seed,
            shuffle=shuffle,
            frames=frames,
            world_size=world_size,
            rank=rank,
            cuts=cuts,
        )

    def _eval_sampler(self, rows: np.ndarray, frames: np.ndarray | None = None) -> ViewGroupSampler:
        return self._sampler(rows, self.val_batch_size or self.batch_size, shuffle=False, frames=frames)

    def _loader(self, sampler: ViewGroupSampler, dataset: FrameDataset | None = None) -> DataLoader[Any]:
        count = self.num_workers
        if not sampler.shuffle and isinstance(self.cohort.reader, NiftiReader):
            count = min(count, 1)  # batches are dealt to workers in turn, and each would unpack every file
        workers = count > 0
        # batch_size None: the sampler gives whole batches and the dataset returns them collated, which leaves
        # Lightning nothing to replace, in prediction and across processes either.
        return BatchLoader(
            Prepared(dataset or self.make_dataset(), self._host_steps(sampler.shuffle)),
            batch_size=None,
            sampler=sampler,
            num_workers=count,
            persistent_workers=workers,
            prefetch_factor=self.prefetch_factor if workers else None,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            collate_fn=RoomToSend(count, self.prefetch_factor),
            worker_init_fn=end_if_unsent,
        )


@DATA.register
class PretrainData(CineDataModule):
    """UK Biobank, or any other cohort, for pretraining: one random frame per study and epoch, the same in all views.

    Subjects may lack views: batches are grouped by the views that their samples have. Training batches are zoomed at
    random as published. Arguments are those of :class:`CineDataModule`.
    """

    def train_transform(self) -> Fit:
        """The published augmentation of pretraining."""
        return PretrainAugment(self.input_size, self.run_seed)


def _at_least(least: int, key: str, value: int) -> int:
    if value < least:
        raise CinemaError(f"data.{key} is {value}; it has to be at least {least}.")
    return value


def _checked_views(views: Sequence[str]) -> list[str]:
    for view in views:
        get_view(view)
    if not views or len(set(views)) < len(views):
        raise CinemaError(f"views is {list(views)}; name at least one view, and each once.")
    return list(views)


def _checked_sizes(views: Sequence[str], given: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    given = given or {}
    for view, size in given.items():
        dims = get_view(view).dims
        if len(size) != dims or min(size) < 1:
            raise CinemaError(f"input_size of {view} is {list(size)}; it needs {dims} whole numbers above 0.")
    return {view: tuple(given.get(view, get_view(view).input_size)) for view in views}
