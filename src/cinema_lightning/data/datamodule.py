"""Data modules: from a folder to batches on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from cinema_lightning.data import formerly
from cinema_lightning.data.augment.base import Effect, check_order
from cinema_lightning.data.dataset import FrameDataset, Prepared, Step
from cinema_lightning.data.evaluation import Left, at_once, order_samples, single_batches
from cinema_lightning.data.loader import at_least, open_loader
from cinema_lightning.data.native import Native
from cinema_lightning.data.nifti import NiftiReader
from cinema_lightning.data.open import Opened, Options, Samples, Spec, open_cohort, trained_at
from cinema_lightning.data.resume import Layout, between_epochs, go_on, kept_layout, layout_of, position
from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.spacing import Option, check_spacing
from cinema_lightning.data.table import Cohort, Split
from cinema_lightning.data.transforms import PLAN, Fit
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.views import VIEWS, Depth


class CineDataModule(L.LightningDataModule):
    """Cohort, splits, samplers, loaders and the device-side transform: what all data modules share.

    What is in the data is one value, :class:`cinema_lightning.data.open.Opened`; this class makes batches of it. A
    subclass says which augmentation is published for it (:meth:`published_augmentation`), and may replace how the
    cohort is opened (:meth:`open`), the dataset (:meth:`make_dataset`) and the transforms.

    Args:
        root: Folder of the data: a store made by `cinema prepare` or `cinema phantom`, or plain NIfTI files named
            <id>/<view>[_<suffix>].nii.gz.
        views: Views to use. A study is used with those of them that it has.
        input_size: Size of the network's input in voxels by view name, e.g. {sax: [192, 192, 16]}; views that are not
            named keep the published size.
        depth: Whether a short-axis stack goes through the network with the slices that it has (own), or padded with
            zeros to the input size (padded), as published. What was trained before there was a choice is padded.
        spacing: Voxel size in mm that plain NIfTI files are brought to: that at which the network was trained, and in
            training the dataset's or the published one (auto); each scan's own (own); or by view, e.g.
            {sax: [1, 1, 10]}. A store is used as it is, and refused where the network was trained at another size;
            own says that this is meant.
        geometry: What to believe of a plain NIfTI file whose sform says another voxel size than its pixdim: sform or
            pixdim; by default it is refused.
        batch_size: Samples per device and step. Halved, with a warning, where the training set is smaller.
        val_batch_size: Samples per device in validation, test and prediction; where not given the batch size, and in
            test and prediction less of it where memory holds less or more at once are no faster.
        num_workers: Processes per device that read files; 0 reads in the main process.
        prefetch_factor: Batches that each worker reads ahead.
        pin_memory: Read into page-locked memory, where there is a GPU.
        val_fraction: Share of the subjects that validate, where the table does not say who does.
        min_views: Studies with fewer of the views are left out.
        limit_subjects: Train on this many subjects only, drawn with the seed.
        fold: Cross-validation: 2/5 validates on the second of five folds of the subjects and trains on the others.
        augment: What training batches are augmented with: the published effects of the kind of data (true), nothing
            (false), or a list of effects, such as [{class_path: Gamma, init_args: {exponent: [0.8, 1.2]}}].
        seed: Keys the split and every random draw; by default the run's seed (seed_everything), else 0.
        predict_split: Which studies to predict.
        predict_frames: Which frames to predict: all, the two named ED and ES in the table (ed_es), or a list of
            numbers from 0.

    Attributes:
        train_sampler: Order of the training batches, after setup for fit; ``skip`` and ``set_epoch`` serve a resume.
        overfit: Every epoch repeats the batches and draws of the first one (``trainer.overfit_batches``).
        test_splits: The splits that a test goes through.
    """

    test_splits: tuple[Split, ...] = ("test",)

    def __init__(
        self,
        root: str,
        views: list[str] = list(VIEWS),  # noqa: B006  (shown by --help; never changed)
        input_size: dict[str, list[int]] | None = None,
        depth: Depth = "own",
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
        fold: str | None = None,
        augment: bool | list[Effect] = True,
        seed: int | None = None,
        predict_split: Literal["all", "train", "val", "test"] = "all",
        predict_frames: Literal["all", "ed_es"] | list[int] = "all",
    ) -> None:
        super().__init__()
        self._given = Options(
            root=root,
            views=views,
            input_size=input_size or {},
            depth=depth,
            spacing=spacing,
            geometry=geometry,
            val_fraction=val_fraction,
            min_views=min_views,
            limit_subjects=limit_subjects,
            fold=fold,
            seed=seed,
        )
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = at_least(0, "num_workers", num_workers)
        self.prefetch_factor = at_least(1, "prefetch_factor", prefetch_factor)
        self.pin_memory = pin_memory
        self.augment = augment
        check_order([] if isinstance(augment, bool) else augment)
        self.predict_split = predict_split
        self.predict_frames = predict_frames
        self.train_sampler: ViewGroupSampler | None = None
        self.overfit = False
        self._followed: Spec | None = None
        self._predicting = False
        self._opened: Opened | None = None
        self._told: Opened | None = None
        self._left = Left()
        self._resume: tuple[int, int] | None = None

    @property
    def options(self) -> Options:
        """What the user says of the studies to use, and what a network was trained with that is to be fed."""
        return self._given.following(self._followed)

    @property
    def opened(self) -> Opened:
        """The cohort as it is in use, opened where it is not yet."""
        if self._opened is None:
            self._opened = self.open(self._followed, predict=self._predicting)
        return self._opened

    @property
    def cohort(self) -> Cohort:
        """The table."""
        return self.opened.cohort

    @property
    def rows(self) -> dict[Split, np.ndarray]:
        """Row numbers of the cohort by split."""
        return self.opened.rows

    @property
    def views(self) -> list[str]:
        """The views in use."""
        return list(self.options.views)

    @property
    def input_size(self) -> dict[str, tuple[int, ...]]:
        """Size of the network's input in voxels by view."""
        return self.options.sizes

    @property
    def run_seed(self) -> int:
        """The seed given, else the run's, else 0."""
        return self.options.run_seed

    @property
    def spec(self) -> dict[str, Any]:
        """Facts that the network and the task are built from, plain types only: views, input_size, spacing, channels.

        ``spacing`` is the voxel size in mm by view, None where images keep their own; it takes a look at the data. For
        what data with labels add, see :class:`~cinema_lightning.data.labelled.LabelledData`.
        """
        if self._predicting and self._followed is not None:
            return dict(self._followed)
        missing = self._opened is None and not Path(self.options.root).is_dir()
        if missing and self.options.facts is None:  # setup refuses it; a task needs no more of data without labels
            return self.options.spec(self.options.wanted_spacing(self._followed))
        return self.opened.spec

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return len(self.samples("train")[0])

    def samples(self, split: Split) -> Samples:
        """The samples of a split: their rows of the cohort, and their frames; None draws a frame at each visit."""
        return self.opened.samples[split]

    def follow(self, spec: Spec, stage: str = "test") -> None:
        """Makes the data use a checkpoint's facts instead of its own; before setup.

        Args:
            spec: What the checkpoint was trained with.
            stage: validate, test or predict; to predict, no labels or targets are needed.

        Raises:
            CinemaError: If the data is of another kind; names what differs.
        """
        self._followed, self._predicting = dict(spec), stage == "predict"
        self._opened = self.open(self._followed, predict=self._predicting)

    def native(self, study: str, view: str) -> Native:
        """See :meth:`cinema_lightning.data.open.Opened.native`."""
        return self.opened.native(study, view)

    def batches_of(self, keys: Sequence[tuple[str, int]], device: torch.device) -> Iterator[Any]:
        """Batches of one sample each, see :func:`cinema_lightning.data.evaluation.single_batches`."""
        return single_batches(self.opened, self.make_dataset(), self.eval_transform(), keys, device)

    def restrict_prediction(
        self, ids: Callable[[Iterable[str]], list[str]], done: set[tuple[str, int]] | None = None
    ) -> None:
        """Leaves out of a prediction or test what others do or did.

        Args:
            ids: Picks the ids to do out of all of them, as a shard does.
            done: (id, frame) pairs that are done.
        """
        self._left = Left(ids, frozenset(done or ()))

    # What subclasses may replace.

    def open(self, spec: Spec | None, *, predict: bool) -> Opened:
        """Opens the cohort.

        Args:
            spec: What the network was trained with that is to be fed; None before training.
            predict: No targets are needed.

        Returns:
            The opened cohort.
        """
        return open_cohort(self.options, spec)

    def make_dataset(self) -> FrameDataset:
        """The dataset, of all rows of the cohort; samplers say which are used."""
        return FrameDataset(self.cohort.ids, self.cohort.reader, self.run_seed, str(self.cohort.source))

    def published_augmentation(self) -> list[Effect]:
        """The published augmentation of training batches."""
        return []

    def train_transform(self) -> Fit:
        """The device-side transform of training batches, where they are augmented."""
        listed = [] if isinstance(self.augment, bool) else self.augment
        effects = self.published_augmentation() if self.augment is True else listed
        return Fit(self.input_size, self.run_seed, effects, depth=self.options.depth)

    def eval_transform(self) -> Fit:
        """The device-side transform of all other batches."""
        return Fit(self.input_size, self.run_seed, depth=self.options.depth)

    def setup(self, stage: str | None = None) -> None:
        """Opens the cohort, says what is left out, and orders the training batches.

        Args:
            stage: fit, validate, test or predict; None for all.

        Raises:
            CinemaError: If there is no data, none for this stage, or of another voxel size than the network's.
        """
        if self._predicting != (stage == "predict"):
            self._predicting, self._opened = stage == "predict", None
        opened = self.opened
        if self._told is not opened:
            for note in opened.notes:
                warnings.warn(note, stacklevel=2)
            self._told = opened
        check_spacing(opened.cohort, opened.spacing, trained_at(self._followed), self.options.spacing)
        if stage in ("fit", None):
            opened.check_training()
            self.batch_size = self._order_training().batch_size

    def set_batch_size(self, batch_size: int) -> None:
        """Orders the training samples in smaller or larger batches, after setup; the other splits keep theirs."""
        self.val_batch_size = self.val_batch_size or self.batch_size
        self.batch_size = batch_size
        self.batch_size = self._order_training().batch_size

    def _order_training(self, cuts: int = 1) -> ViewGroupSampler:
        self.train_sampler = self._sampler(self.samples("train"), self.batch_size, shuffle=True, cuts=cuts)
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
        return self._eval_loader(self.samples("val"))

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the samples to test in a fixed order; no loader where none are left."""
        return self._eval_loader(self._left.to_test(self.opened, self.test_splits))

    def predict_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the frames to predict, study by study; no loader where none are left."""
        dataset = self.make_dataset()
        left = self._left.to_predict(self.opened, self.predict_split, self.predict_frames, dataset)
        return self._eval_loader(left, dataset)

    def state_dict(self) -> dict[str, Any]:
        """Where the next training batch is, so that a resumed run goes on there, also in the middle of an epoch.

        Lightning keeps the state of loaders too, but gives it back in the middle of an epoch only, and otherwise
        starts the first resumed epoch before it says which one it is.
        """
        epoch, batches = (0, 0) if self.trainer is None else position(self.trainer)
        state: dict[str, Any] = {"epoch": epoch, "batches": batches, "samples": self.opened.fingerprint}
        if self.trainer is not None and self.train_sampler is not None:
            state["layout"] = asdict(layout_of(self.trainer, self.train_sampler))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts the next training loader there, with the steps of the saved run, whatever the number of devices.

        Raises:
            CinemaError: If the training samples are others than when the state was saved, or the devices cannot make
                the same steps.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return  # Lightning restores for test and predict too, whose data are meant to be others
        self.opened.check_same(state_dict.get("samples", self.opened.fingerprint))
        batches, trainer = state_dict["batches"], self.trainer
        if not (batches or state_dict["epoch"]):  # nothing was trained, as where one of Lightning's finders went back
            return
        trial = trainer is None or trainer.fast_dev_run  # type: ignore[attr-defined]
        if "layout" in state_dict and not trial and trainer is not None and self.train_sampler is not None:
            before = Layout(**state_dict["layout"])
            now = layout_of(trainer, self.train_sampler)
            kept = kept_layout(before, now, trainer, self.batch_size)
            batches = batches * before.at_once // kept.at_once
            if kept != now:
                self.batch_size = kept.at_once // trainer.world_size
                go_on(kept, trainer, self._order_training(kept.planned // kept.at_once))
        self._resume = (state_dict["epoch"], batches)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Plans what no worker has planned: batches of a loader that is not this module's."""
        return self._transform().prepare(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augments, scales, crops and pads, on the device; the workers have drawn what is random and decided shapes."""
        return self._transform().apply(batch) if PLAN in batch else batch

    def _transform(self, training: bool | None = None) -> Fit:
        if training is None:
            training = self.trainer is not None and self.trainer.training
        return self.train_transform() if training and self.augment is not False else self.eval_transform()

    def _host_steps(self, training: bool) -> list[Step]:
        """What workers add to a batch: the transform's plan, and what the task asks for."""
        task = self.trainer.lightning_module if self.trainer is not None else None
        steps = getattr(task, "host_steps", list)
        return [self._transform(training).prepare, *steps()]

    def _sampler(self, samples: Samples, batch_size: int, *, shuffle: bool, cuts: int = 1) -> ViewGroupSampler:
        options = {"batch_size": batch_size, "shuffle": shuffle, "cuts": cuts}
        if self.trainer is not None:
            options |= {"world_size": self.trainer.world_size, "rank": self.trainer.global_rank}
        return order_samples(self.opened, samples, **options)

    def _eval_loader(self, samples: Samples, dataset: FrameDataset | None = None) -> DataLoader[Any] | list[Any]:
        if not len(samples[0]):
            return []
        batch_size = self.val_batch_size or at_once(self.trainer, self.batch_size)
        return self._loader(self._sampler(samples, batch_size, shuffle=False), dataset)

    def _loader(self, sampler: ViewGroupSampler, dataset: FrameDataset | None = None) -> DataLoader[Any]:
        workers = self.num_workers
        if not sampler.shuffle and isinstance(self.cohort.reader, NiftiReader):
            workers = min(workers, 1)  # batches are dealt to workers in turn, and each would unpack every file
        prepared = Prepared(dataset or self.make_dataset(), self._host_steps(sampler.shuffle))
        return open_loader(prepared, sampler, workers, self.prefetch_factor, self.pin_memory)


def __getattr__(name: str) -> Any:
    """Where PretrainData was before each kind had its folder: plug-ins find it here still."""
    return formerly(__name__, name)
