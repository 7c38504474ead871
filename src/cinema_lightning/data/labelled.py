"""What all data modules with labels share; each kind of task has its own in its folder (``tasks/*/data.py``)."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from cinema_lightning.data.augment.affine import Affine
from cinema_lightning.data.augment.base import Effect
from cinema_lightning.data.augment.crop import Crop
from cinema_lightning.data.augment.gamma import Gamma
from cinema_lightning.data.augment.noise import Noise, Scale
from cinema_lightning.data.datamodule import CineDataModule
from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.facts import check_made_of, facts_of, is_of_phantoms
from cinema_lightning.data.labels import LabelledDataset, plain
from cinema_lightning.data.open import Opened, Spec, arrays, named_phases, open_cohort
from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.seen import PEOPLE, people_of
from cinema_lightning.data.splits import fraction_of_subjects, strata_of
from cinema_lightning.data.table import Split, views_of
from cinema_lightning.data.transforms import Whole
from cinema_lightning.errors import CinemaError

UNLIKE_PEOPLE = (
    "the network was trained on phantoms only, and nothing says that these are some; what it finds in people may look "
    "right and be far off."
)
Pairs = list[tuple[int, int]]
Frames = Literal["ed_es", "all"]


class LabelledData(CineDataModule):
    """Base of the data modules with labels: facts of the dataset, training fraction, ED and ES, what a network is told.

    A subclass is one kind of target, not one dataset: datasets differ by the facts that they declare. It says how an
    opened cohort gets its targets (:meth:`with_targets`). The splits are those of the table, which preparation made as
    published.

    At test the checkpoint's facts win: :meth:`follow` makes the data use its classes, their order, its mean and SD,
    and refuses what does not fit.

    ``spec`` holds beside views, input_size, spacing, channels and depth: ``kind``, ``dataset``, ``phantoms`` (whether
    they are all that is in the store), ``channel_names``, ``spacing_known``, ``n_train`` (samples), ``n_subjects``
    (that train), ``split`` (what the splits are drawn with), and by kind ``classes``, ``label_codes``,
    ``class_counts``, ``target``, ``mean``, ``std``, ``landmarks``, ``n_events``.

    Args:
        root: Folder of the data: a store made by `cinema prepare` or `cinema phantom`; for prediction also plain NIfTI
            files named <id>/<view>[_<suffix>].nii.gz.
        dataset: Dataset that the store was made of, which gives labels, classes and views; by default what the store
            itself says.
        views: Views to use; by default the dataset's.
        fraction: Share of the training subjects to train on, drawn with the seed: the share of each class is kept, and
            a larger fraction holds the subjects of a smaller one.
        assumed_phases: Where ED and ES lie as fractions of the cycle in studies whose table does not name their frames,
            such as [0, 0.35] for UK Biobank; by default those studies are left out.
        noise_scale: Scale of the noise of the published augmentation: unit (0 to 1), or published (grey levels 0 to
            255). A list of effects says it itself.
        sampling: Order of the training samples: all of them, shuffled; or as many of each class (the target's, else the
            dataset's own) in every epoch, of which a rare one comes several times with other augmentation.
        test_fraction: Share of the subjects that test, where the table does not say who does.
        test_split: The split that a test goes through, such as val where the test subjects have no labels.
        **options: See :class:`~cinema_lightning.data.datamodule.CineDataModule`.

    Attributes:
        facts: Facts of the dataset.
    """

    kind: ClassVar[str]
    """Name of the kind of target in ``spec``."""
    unbalanced: ClassVar[str] = ""
    """Why its classes cannot be balanced; empty where they can."""
    per_study: ClassVar[bool] = False
    """A study is one sample: ED and ES are its channels, (B, 2, X, Y[, Z]), scaled to [0, 1] over both together.

    Images without a time axis have one channel, or one for each sequence.
    """

    def __init__(
        self,
        root: str,
        dataset: str | None = None,
        views: list[str] | None = None,
        fraction: float = 1.0,
        assumed_phases: list[float] | None = None,
        noise_scale: Scale = "unit",
        sampling: Literal["shuffled", "balanced"] = "shuffled",
        test_fraction: float = 0.0,
        test_split: Split = "test",
        **options: Any,
    ) -> None:
        self.facts = facts_of(dataset, root)
        super().__init__(root, list(self.facts.views) if views is None else views, **options)
        if not 0 < fraction <= 1:
            raise CinemaError(f"fraction is {fraction}; it is a share of the training subjects, above 0 and up to 1.")
        if assumed_phases is not None and (len(assumed_phases) != 2 or not all(0 <= p < 1 for p in assumed_phases)):
            raise CinemaError(
                f"assumed_phases is {assumed_phases}; give ED and ES as fractions of the cycle, such as [0, 0.35]."
            )
        self._given = replace(
            self._given,
            facts=self.facts,
            test_fraction=test_fraction,
            fraction=fraction,
            assumed_phases=assumed_phases,
        )
        self.noise_scale = noise_scale
        if noise_scale != "unit" and not isinstance(self.augment, bool):
            raise CinemaError(
                f"noise_scale is {noise_scale}, but data.augment is a list of effects: set the scale of Noise there."
            )
        self.sampling = sampling
        if test_split != "test":
            self.test_splits = (test_split,)

    def setup(self, stage: str | None = None) -> None:
        """See :meth:`CineDataModule.setup`; the validation subjects of a fold are judged only where they are the same.

        Raises:
            CinemaError: If a fold's validation subjects are to be tested or validated, and this table gives others.
        """
        super().setup(stage)
        if (self._followed or {}).get("phantoms") and not is_of_phantoms(self.options.root):
            warnings.warn(self.opened.note(UNLIKE_PEOPLE), stacklevel=2)
        judged = self.judged(stage)
        if stage == "test":
            self.test_splits = judged
        if stage in ("validate", "test") and not judged:
            raise CinemaError(
                f"{self.cohort.source} divides into other folds than the table of the training (other subjects or "
                "classes), so that who validated there is not known here: test on the table that it was trained with."
            )

    def judged(self, stage: str | None) -> tuple[Split, ...]:
        """Splits that a stage judges: without the validation subjects of a fold where this table gives others."""
        asked: tuple[Split, ...] = ("val",) if stage == "validate" else self.test_splits if stage == "test" else ()
        trained = (self._followed or {}).get("split", {}).get("held_out")
        if trained is None or "val" not in asked or trained == held_out(self.opened):
            return asked
        return tuple(split for split in asked if split != "val")

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`CineDataModule.state_dict`; and who trains and validates, so that they are never a test."""
        return super().state_dict() | {PEOPLE: people_of(self.opened)}

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """The cohort with samples, targets, and what ``spec`` says of them.

        Args:
            opened: The cohort; it is not changed.
            spec: What a network was trained with, which wins; None before training.

        Returns:
            Another value. Where nothing can be learnt from it, it says why in ``untrainable``.

        Raises:
            CinemaError: If the targets cannot be used, or do not fit the network.
        """
        raise NotImplementedError

    def open(self, spec: Spec | None, *, predict: bool) -> Opened:
        """See :meth:`CineDataModule.open`."""
        if spec is not None:
            _check_kind(spec, self.kind, getattr(self, "target", None))
        opened = with_frames(open_cohort(self._given, spec), per_study=self.per_study)
        if spec is not None:
            _check_channels(spec, opened)
        if not predict:
            opened = self.with_targets(opened, spec)
        n_studies, untrainable = len(opened.studies["train"]), opened.untrainable
        if n_studies and not len(opened.rows["train"]):
            why = f"none of the {n_studies} training studies can be used for {self.kind}; the warnings above say why."
            untrainable = opened.note(why)
        return replace(opened, facts={**_facts(opened, self.kind), **opened.facts}, untrainable=untrainable)

    def _order_training(self, cuts: int = 1) -> ViewGroupSampler:
        sampler = super()._order_training(cuts)
        if self.sampling == "balanced":
            strata = self.opened.strata
            classes = None if strata is None or self.unbalanced else strata[sampler.rows]
            if classes is None or classes.max() < 0:
                why = self.unbalanced or "has no classes"
                raise CinemaError(f"data.sampling is balanced, but {self.kind} of {self.cohort.source} {why}.")
            sampler.classes = classes
        return sampler

    @property
    def spacing_known(self) -> bool:
        """Whether the images' voxel size in mm is known."""
        return self.opened.spacing_known

    def fields(self, study: str) -> dict[str, Any]:
        """Cells of a study's row: column -> text, number, or None where it is empty; CinemaError for no study."""
        row = self.cohort.table.iloc[self.opened.row_of(study)]
        return {str(name): plain(cell) for name, cell in row.items()}

    def phase_of(self, study: str, frame: int) -> str:
        """ED or ES where this frame of a study is called so, else empty; also for images without a time axis."""
        known = [] if self.opened.still else self.opened.phases[self.opened.row_of(study)].tolist()
        return next((name for name, number in zip(("ED", "ES"), known, strict=False) if number == frame), "")

    def split_of(self, study: str) -> str:
        """The split that a study is in; empty where it is in none."""
        row = self.opened.row_of(study)
        return next((str(split) for split, rows in self.opened.studies.items() if row in rows), "")

    def make_dataset(self) -> FrameDataset:
        """Images and what belongs to them."""
        opened = self.opened
        if opened.unreadable:
            raise CinemaError(opened.unreadable)
        return LabelledDataset(
            opened.cohort.ids,
            opened.cohort.reader,
            self.run_seed,
            str(opened.cohort.source),
            opened.channels,
            opened.extras,
            opened.phases,
            opened.targets,
        )

    def published_augmentation(self) -> list[Effect]:
        """The published augmentation of fine-tuning."""
        return [Gamma(), Noise(scale=self.noise_scale), Affine(), Crop()]

    def eval_transform(self) -> Whole:
        """Scale and pad; nothing is cropped."""
        return Whole(self.input_size, self.run_seed, depth=self.options.depth)


def with_frames(opened: Opened, *, per_study: bool) -> Opened:
    """Adds what the table and a look at one study say of its frames: ED and ES, channels, and whether mm are known.

    Args:
        opened: The cohort.
        per_study: A study is one sample, with ED and ES as its channels.

    Returns:
        The cohort with ``found_phases`` (0 for images without a time axis), ``channels`` and their names.

    Raises:
        CinemaError: If it was made of another dataset than its facts say.
    """
    cohort, facts = opened.cohort, opened.options.facts
    row = next(int(rows[0]) for rows in opened.studies.values() if len(rows))
    series = [cohort.reader.open(str(cohort.ids[row]), view) for view in views_of(int(opened.masks[row]))]
    provenance = series[0].info.provenance
    if facts is not None:
        check_made_of(provenance, facts, str(cohort.source))
    sequences = [str(name) for name in provenance.get("channels", [])]
    moving = any(one.n_frames > 1 for one in series)
    still = bool(sequences) or (bool((cohort.numbers("n_frames") == 1).all()) and not moving)
    phases = np.zeros((len(cohort), 2)) if still else _phases(opened)
    stacked = per_study and not still
    channels: Literal["frame", "series"] = "series" if sequences else "frame"
    return replace(
        opened,
        found_phases=phases,
        still=still,
        per_study=per_study,
        channels=np.nan_to_num(phases, nan=-1).astype(int) if stacked else channels,
        channel_names=["ED", "ES"] if stacked else sequences or ["image"],
        spacing_known=bool(provenance.get("spacing_known", True)),
    )


def with_ed_es(opened: Opened, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The rows whose ED and ES are known, and a sentence about the others."""
    known = np.isfinite(opened.phases[rows]).all(axis=1)
    advice = "fill these columns, or set data.assumed_phases"
    return rows[known], opened.left_out(rows[~known], "without ed_frame or es_frame", advice)


def with_samples(opened: Opened, pairs: Mapping[Split, Pairs], strata: np.ndarray | None = None) -> Opened:
    """The cohort with these samples, of which a share of the subjects trains (``Options.fraction``).

    Args:
        opened: The cohort.
        pairs: (row, frame) of each sample, by split.
        strata: (n,) what the share is balanced by; by default the dataset's first classes, mostly the pathology.

    Returns:
        Another value.
    """
    options, found = opened.options, np.unique([row for row, _ in pairs["train"]]).astype(int)
    strata = _strata(opened) if strata is None else strata
    train = set(fraction_of_subjects(opened.cohort, found, options.fraction, options.run_seed, strata).tolist())
    kept = {**pairs, "train": [pair for pair in pairs["train"] if pair[0] in train]}
    return replace(opened, strata=strata, samples={split: arrays(some) for split, some in kept.items()})


def held_out(opened: Opened) -> str:
    """A digest of the subjects that the fold in use validates on; empty where there is no fold."""
    if opened.options.fold is None:
        return ""
    rows = opened.options.split(opened.cohort)["val"]
    names = np.unique(opened.cohort.table["subject"].to_numpy(dtype=str)[rows])
    return hashlib.blake2b("\n".join(names.tolist()).encode(), digest_size=8).hexdigest()


def with_studies(opened: Opened, known: np.ndarray, notes: list[str], strata: np.ndarray | None = None) -> Opened:
    """One sample per study that is (n,) known to have a target, named after its ED frame."""
    pairs = {}
    for split, rows in opened.studies.items():
        there, said = with_ed_es(opened, rows[known[rows]])
        pairs[split] = list(zip(there.tolist(), opened.phases[there, 0].astype(int).tolist(), strict=True))
        notes = [*notes, *said]
    return replace(with_samples(opened, pairs, strata), notes=[*opened.notes, *notes])


def numbers_in(opened: Opened, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A numeric column, which of its cells can be used, and a sentence about those of the splits that cannot."""
    opened.cohort.texts(name)  # says which columns there are where it is none
    values = opened.cohort.numbers(name)
    known = np.isfinite(values)
    return values, known, without_value(opened, name, ~known)


def without_value(opened: Opened, name: str, unknown: np.ndarray) -> list[str]:
    """A sentence about the studies of the splits that are (n,) unknown to have a value in a column; none for none."""
    rows = np.flatnonzero(unknown & opened.in_a_split)
    return opened.left_out(rows, f"without a value in column {name}")


def frames_with(opened: Opened, row: int, frames: Callable[[str, str], list[int]]) -> set[int]:
    """Frames of a study that have a label map or landmarks in one of its views."""
    study = str(opened.cohort.ids[row])
    return {frame for view in views_of(int(opened.masks[row])) for frame in frames(study, view)}


def checked_frames(frames: Frames) -> Frames:
    """The option; CinemaError where it is neither."""
    if frames not in ("ed_es", "all"):
        raise CinemaError(f"frames is {frames!r}; it is ed_es or all.")
    return frames


def _facts(opened: Opened, kind: str) -> dict[str, Any]:
    """What ``spec`` says of any data with labels."""
    options = opened.options
    return {
        "kind": kind,
        "dataset": options.facts.name if options.facts else "",
        "phantoms": is_of_phantoms(options.root),
        "channel_names": list(opened.channel_names),
        "spacing_known": opened.spacing_known,
        "split": {name: getattr(options, name) for name in ("val_fraction", "test_fraction")}
        | {"seed": options.run_seed}
        | ({} if options.fold is None else {"fold": options.fold, "held_out": held_out(opened)}),
        "n_train": len(opened.samples["train"][0]),
        "n_subjects": len(set(opened.cohort.table["subject"].to_numpy(dtype=str)[opened.rows["train"]].tolist())),
    }


def _strata(opened: Opened) -> np.ndarray | None:
    table, facts = opened.cohort.table, opened.options.facts
    column = next((name for name in facts.classes if name in table), None) if facts else None
    return None if column is None else strata_of(opened.cohort, column)


def _phases(opened: Opened) -> np.ndarray:
    """(n, 2) ED and ES frame of each row, NaN where unknown; a study with one of the two has neither."""
    cohort, assumed = opened.cohort, opened.options.assumed_phases
    phases, counts = named_phases(cohort), cohort.numbers("n_frames")
    unknown = ~np.isfinite(phases).all(axis=1)
    phases[unknown] = np.nan
    if assumed is not None:
        headers = LabelledDataset(cohort.ids, cohort.reader, opened.options.run_seed, str(cohort.source))
        for row in np.flatnonzero(unknown & ~np.isfinite(counts) & (opened.masks > 0)):
            counts[row] = headers.count_frames(int(row), views_of(int(opened.masks[row])))
        guess = np.minimum(np.round(np.outer(counts, assumed)), counts[:, None] - 1)
        phases[unknown] = guess[unknown]
    return phases


def _check_kind(spec: Spec, kind: str, target: str | None) -> None:
    own, theirs = (kind, target), (spec.get("kind", "pretraining"), spec.get("target"))
    if own != theirs:
        wanted, there = (" of ".join(filter(None, pair)) for pair in (theirs, own))
        raise CinemaError(
            f"The checkpoint holds a network for {wanted}, but the data is for {there}: use the data class and "
            "data.target that it was trained with."
        )


def _check_channels(spec: Spec, opened: Opened) -> None:
    names = opened.channel_names
    if spec["channels"] != len(names):
        raise CinemaError(
            f"{opened.cohort.source} has images of {len(names)} channel(s) ({', '.join(names)}), but the network in "
            f"the checkpoint takes {spec['channels']} ({', '.join(spec.get('channel_names', []))}); test it on "
            "data of the kind it was trained with."
        )
