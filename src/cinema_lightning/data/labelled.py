"""What all data modules with labels share; see :mod:`cinema_lightning.data.labelled_dense` and ``labelled_pooled``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from cinema_lightning.data.datamodule import CineDataModule, Split
from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.facts import check_made_of, facts_of
from cinema_lightning.data.finetune_transforms import FinetuneAugment, Whole
from cinema_lightning.data.labels import Extra, LabelledDataset, plain
from cinema_lightning.data.phases import known_phases
from cinema_lightning.data.splits import fraction_of_subjects
from cinema_lightning.data.table import views_of
from cinema_lightning.errors import CinemaError

Pairs = list[tuple[int, int]]
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class LabelledData(CineDataModule):
    """Base of the data modules with labels: facts of the dataset, training fraction, ED and ES, what a network is told.

    A subclass is one kind of target, not one dataset: datasets differ by the facts that they declare. The splits are
    those of the table, which preparation made as published.

    At test the checkpoint's facts win: :meth:`follow` makes the data use its classes, their order, its mean and SD,
    and refuses what does not fit.

    Args:
        root: Folder of the data: a store made by `cinema prepare` or `cinema phantom`; for prediction also plain NIfTI
            files named <id>/<view>[_<suffix>].nii.gz.
        dataset: Dataset that the store was made of, which gives labels, classes and views; by default a phantom store.
        views: Views to use; by default the dataset's.
        fraction: Share of the training subjects to train on, drawn with the seed: the share of each class is kept, and
            a larger fraction holds the subjects of a smaller one.
        assumed_phases: Where ED and ES lie as fractions of the cycle in studies whose table does not name their frames,
            such as [0, 0.35] for UK Biobank; by default those studies are left out.
        noise_scale: Scale of the augmentation's noise: unit (0 to 1), or published (grey levels 0 to 255).
        test_fraction: Share of the subjects that test, where the table does not say who does.
        test_split: The split that a test goes through, such as val where the test subjects have no labels.
        **options: See :class:`~cinema_lightning.data.datamodule.CineDataModule`.

    Attributes:
        facts: Facts of the dataset.
        spacing_known: Whether the images' voxel size in mm is known, after setup.
    """

    kind: ClassVar[str]
    """Name of the kind of target in ``spec``."""

    def __init__(
        self,
        root: str,
        dataset: str | None = None,
        views: list[str] | None = None,
        fraction: float = 1.0,
        assumed_phases: list[float] | None = None,
        noise_scale: Literal["unit", "published"] = "unit",
        test_fraction: float = 0.0,
        test_split: Split = "test",
        **options: Any,
    ) -> None:
        self.facts = facts_of(dataset)
        super().__init__(root, list(self.facts.views) if views is None else views, **options)
        if not 0 < fraction <= 1:
            raise CinemaError(f"fraction is {fraction}; it is a share of the training subjects, above 0 and up to 1.")
        if assumed_phases is not None and (len(assumed_phases) != 2 or not all(0 <= p < 1 for p in assumed_phases)):
            raise CinemaError(
                f"assumed_phases is {assumed_phases}; give ED and ES as fractions of the cycle, such as [0, 0.35]."
            )
        self.fraction = fraction
        self.assumed_phases = assumed_phases
        self.noise_scale = noise_scale
        self.test_fraction = test_fraction
        if test_split != "test":
            self.test_splits = (test_split,)
        self.spacing_known = True
        self._sequences: list[str] = []
        self._single = False
        self._followed: dict[str, Any] | None = None
        self._predicting = False
        self._notes: list[str] = []
        self._spec: dict[str, Any] | None = None
        self._places: dict[str, int] | None = None

    # ------------------------------------------------------------------ what subclasses answer

    def encode(self) -> np.ndarray:
        """Reads the targets; (n,) bool, which rows of the cohort have one."""
        return np.ones(len(self.cohort), dtype=bool)

    def pairs(self, rows: np.ndarray, split: Split) -> Pairs:
        """The samples of some rows as (row, frame)."""
        raise NotImplementedError

    def strata(self) -> np.ndarray | None:
        """(n,) what the training fraction is balanced by: the dataset's first classes, mostly the pathology."""
        column = next((name for name in self.facts.classes if name in self.cohort.table), None)
        if column is None:
            return None
        return np.unique(self.cohort.table[column].astype(str).to_numpy(dtype=str), return_inverse=True)[1]

    def learn(self) -> None:
        """Takes statistics from the training samples."""

    def describe(self) -> dict[str, Any]:
        """What ``spec`` says of the target."""
        return {}

    def check_target(self, spec: dict[str, Any]) -> None:
        """Refuses the target of a checkpoint that does not fit; CinemaError."""

    def check_training(self) -> None:
        """Refuses training samples that nothing can be learnt from; CinemaError."""

    def extras(self) -> list[Extra]:
        """What is read beside the images."""
        return []

    def channels(self) -> Literal["frame", "series"] | np.ndarray:
        """What the channels of an image are, see :class:`~cinema_lightning.data.labels.LabelledDataset`."""
        return "series" if self._sequences else "frame"

    def channel_names(self) -> list[str]:
        """Names of the channels."""
        return list(self._sequences) or ["image"]

    # ------------------------------------------------------------------ facts

    @property
    def dataset_spacing(self) -> dict[str, Any]:
        """See :meth:`CineDataModule.dataset_spacing`."""
        return dict(self.facts.spacing)

    @property
    def spec(self) -> dict[str, Any]:
        """Facts that the network and the task are built from, plain types only.

        Beside views, input_size, spacing and channels: ``kind``, ``dataset``, ``channel_names``, ``spacing_known``,
        ``n_train`` (samples), ``n_subjects`` (that train), ``split`` (what the splits are drawn with), and by kind
        ``classes``, ``label_codes``, ``class_counts``, ``target``, ``mean``, ``std``, ``landmarks``, ``n_events``.
        Reads the table.
        """
        if self._predicting and self._followed is not None:
            return dict(self._followed)
        if not self._ready:
            self._open()
        if self._spec is None:
            subjects = self.cohort.table["subject"].to_numpy(dtype=str)[self.rows["train"]]
            self._spec = {
                **super().spec,
                "channels": len(self.channel_names()),
                "channel_names": self.channel_names(),
                "kind": self.kind,
                "dataset": self.facts.name,
                "spacing_known": self.spacing_known,
                "split": {name: getattr(self, name) for name in ("val_fraction", "test_fraction")}
                | {"seed": self.run_seed},
                "n_train": self.n_train,
                "n_subjects": len(set(subjects.tolist())),
                **self.describe(),
            }
        return dict(self._spec)

    def fields(self, study: str) -> dict[str, Any]:
        """Cells of a study's row, for tables of results.

        Args:
            study: The id.

        Returns:
            Column -> text, number, or None where the cell is empty.

        Raises:
            CinemaError: If there is no such study.
        """
        if self._places is None:
            self._places = {name: row for row, name in enumerate(self.cohort.ids.tolist())}
        if study not in self._places:
            raise CinemaError(f"{self.cohort.source} has no row '{study}'.")
        return {str(name): plain(cell) for name, cell in self.cohort.table.iloc[self._places[study]].items()}

    def phase_of(self, study: str, frame: int) -> str:
        """ED or ES where this frame of a study is called so, else empty; also for images without a time axis."""
        self.fields(study)
        if self._single or self._places is None:
            return ""
        known = self._phases[self._places[study]]
        return next((name for name, number in zip(("ED", "ES"), known, strict=True) if number == frame), "")

    def split_of(self, study: str) -> str:
        """The split that a study is in; empty where it is in none."""
        self.fields(study)
        assert self._places is not None
        row = self._places[study]
        return next((str(split) for split, rows in self._studies.items() if row in rows), "")

    def check(self, spec: dict[str, Any]) -> None:
        """Refuses to feed this data to a network that was trained on another kind of it.

        Args:
            spec: What the checkpoint was trained with.

        Raises:
            CinemaError: Names what differs.
        """
        own, theirs = (self.kind, getattr(self, "target", None)), (spec.get("kind", "pretraining"), spec.get("target"))
        if own != theirs:
            wanted, there = (" of ".join(filter(None, pair)) for pair in (theirs, own))
            raise CinemaError(
                f"The checkpoint holds a network for {wanted}, but the data is for {there}: use the data class and "
                "data.target that it was trained with."
            )
        if not self._ready:
            self._open()
        names = self.channel_names()
        if spec["channels"] != len(names):
            raise CinemaError(
                f"{self.cohort.source} has images of {len(names)} channel(s) ({', '.join(names)}), but the network in "
                f"the checkpoint takes {spec['channels']} ({', '.join(spec.get('channel_names', []))}); test it on "
                "data of the kind it was trained with."
            )
        if not self._predicting:
            self.check_target(spec)

    def follow(self, spec: dict[str, Any], stage: str = "test") -> None:
        """Makes the data use a checkpoint's facts: views, sizes, classes in their order, mean and SD, landmarks.

        Args:
            spec: What the checkpoint was trained with.
            stage: validate, test or predict; to predict, no labels or targets are needed.

        Raises:
            CinemaError: If the data does not fit, see :meth:`check`.
        """
        self._predicting = stage == "predict"
        if "split" in spec and spec["dataset"] == self.facts.name:  # whoever was trained on must not be tested
            self.seed, self.val_fraction, self.test_fraction = (
                spec["split"][name] for name in ("seed", "val_fraction", "test_fraction")
            )
        super().follow(spec, stage)
        self.check(spec)
        self._followed = dict(spec)
        self._ready = False

    # ------------------------------------------------------------------ samples

    def setup(self, stage: str | None = None) -> None:
        """Reads table and targets, and says what is left out.

        Args:
            stage: fit, validate, test or predict; None for all.

        Raises:
            CinemaError: If something cannot be used, or there is nothing for this stage.
        """
        if self._predicting != (stage == "predict"):
            self._predicting, self._ready = stage == "predict", False
        if not self._ready:
            self._open()
        if stage != "predict":
            self._say_notes()
        else:
            self._masks = self._all_masks
        if stage in ("fit", None):
            self._check_enough()
            self.check_training()
            self._say_notes()
        super().setup(stage)

    def _say_notes(self) -> None:
        for note in self._notes:
            warnings.warn(note, stacklevel=3)
        self._notes = []

    def samples(self, split: Split) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows and frames of the samples of a split."""
        return self._samples[split]

    def make_dataset(self) -> FrameDataset:
        """Images and what belongs to them."""
        return self._dataset(self.extras())

    def train_transform(self) -> Whole:
        """The published augmentation of fine-tuning."""
        return FinetuneAugment(self.input_size, self.run_seed, noise_scale=self.noise_scale)

    def eval_transform(self) -> Whole:
        """Scale and pad; nothing is cropped."""
        return Whole(self.input_size, self.run_seed)

    def note(self, text: str) -> None:
        """Keeps a sentence for the user, said once at setup."""
        self._notes.append(f"{self.cohort.source}: {text}")

    def leave_out(self, rows: np.ndarray, why: str, advice: str = "") -> None:
        """Notes that studies are left out: how many, why, the first of them, and what can be done."""
        if len(rows):
            first = f"the first is '{self.cohort.ids[rows[0]]}'"
            what = f"1 study {why} is" if len(rows) == 1 else f"{len(rows)} studies {why} are"
            self.note(f"{what} left out ({first}){advice and f'; {advice}'}.")

    def in_a_split(self) -> np.ndarray:
        """(n,) bool, rows that are in one of the splits, whether or not they have a target."""
        inside = np.zeros(len(self.cohort), dtype=bool)
        inside[np.concatenate(list(self._studies.values()))] = True
        return inside

    def _open(self) -> None:
        super()._open()
        self._ready = False
        self._notes, self._spec, self._places = [], None, None
        self._all_masks = self._masks
        self._studies = dict(self.rows)
        self._probe()
        self._phases = self._find_phases()
        if self._predicting:
            self._ready = True
            return
        known = self.encode()
        samples = {split: self.pairs(self.rows[split][known[self.rows[split]]], split) for split in _SPLITS}
        found = np.unique([row for row, _ in samples["train"]]).astype(int)
        train = set(fraction_of_subjects(self.cohort, found, self.fraction, self.run_seed, self.strata()).tolist())
        samples["train"] = [pair for pair in samples["train"] if pair[0] in train]
        self._samples = {split: _arrays(pairs) for split, pairs in samples.items()}
        self.rows = {str(split): np.unique(rows) for split, (rows, _) in self._samples.items()}
        self.learn()
        self._ready = True

    def _probe(self) -> None:
        """Looks at one series for what the table does not say: channels, and whether mm are known."""
        row = next(int(rows[0]) for rows in self.rows.values() if len(rows))
        views = views_of(int(self._masks[row]))
        series = [self.cohort.reader.open(str(self.cohort.ids[row]), view) for view in views]
        self._moving = any(one.n_frames > 1 for one in series)
        provenance = series[0].info.provenance
        check_made_of(provenance, self.facts, str(self.cohort.source))
        self._sequences = [str(name) for name in provenance.get("channels", [])]
        self.spacing_known = bool(provenance.get("spacing_known", True))

    def _find_phases(self) -> np.ndarray:
        """(n, 2) ED and ES frame of each row, NaN where unknown; 0 for images without a time axis."""
        counts = self.cohort.numbers("n_frames")
        phases = np.stack([self.cohort.numbers("ed_frame"), self.cohort.numbers("es_frame")], axis=1)
        self._single = bool(self._sequences) or (bool((counts == 1).all()) and not self._moving)
        if self._single:
            return np.zeros_like(phases)
        if self.assumed_phases is not None:
            headers = LabelledDataset(self.cohort.ids, self.cohort.reader, self.run_seed, str(self.cohort.source))
            for row in np.flatnonzero(~np.isfinite(phases).all(axis=1) & ~np.isfinite(counts) & (self._masks > 0)):
                counts[row] = headers.count_frames(int(row), views_of(int(self._masks[row])))
        return known_phases(phases, counts, self.assumed_phases)

    def ed_es(self, rows: np.ndarray) -> np.ndarray:
        """The rows whose ED and ES are known; notes how many are not."""
        known = np.isfinite(self._phases[rows]).all(1)
        self.leave_out(rows[~known], "without ed_frame or es_frame", "fill these columns, or set data.assumed_phases")
        return rows[known]

    def _check_enough(self) -> None:
        if self.n_train == 0 and len(self._studies["train"]):
            raise CinemaError(
                f"{self.cohort.source}: none of the {len(self._studies['train'])} training studies can be used for "
                f"{self.kind}; the warnings above say why."
            )

    def _dataset(self, extras: Iterable[Extra]) -> FrameDataset:
        return LabelledDataset(
            self.cohort.ids,
            self.cohort.reader,
            self.run_seed,
            str(self.cohort.source),
            self.channels(),
            tuple(extras),
            self._phases,
        )

    def _prediction_dataset(self) -> FrameDataset:
        return self._dataset(())

    def _predictable(self, split: Split) -> np.ndarray:
        if not len(self._studies[split]):
            raise CinemaError(f"{self.cohort.source} has no {split} studies; see its split column.")
        return self._studies[split]

    def _frames_of(self, row: int, dataset: FrameDataset, phases: np.ndarray) -> list[int]:
        return [0] if self._sequences else super()._frames_of(row, dataset, self._phases[row])


def _arrays(pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=int).reshape(-1, 2)
    return table[:, 0], table[:, 1]
