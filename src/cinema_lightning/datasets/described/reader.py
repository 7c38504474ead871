"""A dataset whose facts and files a description names: one reader for all own data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cinema_lightning.columns import look_up
from cinema_lightning.datasets.base import LV, RV, CaseRef, Dataset, RawCase
from cinema_lightning.datasets.described.datalist import listed_studies
from cinema_lightning.datasets.described.description import DEFAULT_SPLITS, Description
from cinema_lightning.datasets.described.images import read_images
from cinema_lightning.datasets.described.marks import read_marks, without_images
from cinema_lightning.datasets.described.people import FRAMES, People, read_people, unmatched
from cinema_lightning.datasets.described.splits import assign, unassigned
from cinema_lightning.datasets.described.studies import Entry, FoundStudy, find_studies, frame_numbers
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS

VOLUMES = ("edv", "esv", "ef")
NOBODY = (
    "no table says in its column subject whose study it is, as it does of others, so that the same person may be in "
    "another split: fill the cell"
)


class DescribedDataset(Dataset):
    """Own data.

    Args:
        description: What is said of it.
    """

    def __init__(self, description: Description) -> None:
        codes = description.codes
        views = tuple(view for view in VIEWS if view in description.views) or tuple(VIEWS)
        sources = [pattern.text for pattern in description.patterns] or [description.datalist]
        facts: dict[str, Any] = {
            "name": description.name,
            "display": description.name,
            "source": description.source,
            "looked_for": " and ".join(sources),
            "views": views,
            "labels": dict(sorted((code, name) for name, code in codes.items())),
            "label_map": dict(sorted((raw, codes[name]) for name, raws in description.labels.items() for raw in raws)),
            "crop": description.crop,
            "spacing": dict(description.spacing),
            "grey_levels": description.grey_levels,
            "classes": dict(description.classes),
            "measures": "volumes" if {LV, RV} & set(codes.values()) and "sax" in views else "none",
            "ed_es_from_volumes": description.by_volume,
            "splits": f"as {description.source} says",
            "nifti": description.studies is None,
        }
        vars(self).update(facts)
        self.description = description

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        studies, tables = self._studies(raw), self._tables(raw)
        landmarks = self.description.landmarks
        marks = read_marks(raw, landmarks) if landmarks else {}
        rows = {study.id: [_row(people, study) for people in tables] for study in studies}
        merged = {study.id: _merged(study, rows[study.id], tables) for study in studies}
        given = {study.id: merged[study.id].pop("subject", None) for study in studies}
        subjects = {study.id: str(given[study.id] or study.subject) for study in studies}
        splits = self._splits(studies, subjects, tables)
        self._check_classes(merged.values())
        found = [self._case(study, subjects[study.id], splits[study.id], merged[study.id], tables) for study in studies]
        if any(given.values()):
            found = [case if given[case.id] else replace(case, problem=case.problem or NOBODY) for case in found]
        if landmarks is None:
            return found
        keys = [case.id if landmarks.by == "id" else case.subject for case in found]
        if not set(keys) & set(marks):
            raise CinemaError(
                f"{raw / landmarks.file}: no cell of column '{landmarks.key}' ({', '.join(list(marks)[:3])}) is of the "
                f"images ({', '.join(keys[:3])}): mend the pattern or name another column in landmarks."
            )
        return [
            replace(
                case,
                args={**case.args, "landmarks": marks.get(key, [])},
                warnings=(*case.warnings, *([] if key in marks else [f"{landmarks.file}: no landmark of it"])),
            )
            for case, key in zip(found, keys, strict=True)
        ]

    def notes(self, raw: Path) -> list[str]:
        """See :meth:`Dataset.notes`."""
        studies = self._studies(raw)
        notes = [unmatched(people, _names(people, studies)) for people in self._tables(raw)]
        if marked := self.description.landmarks:
            names = [study.id if marked.by == "id" else study.subject for study in studies]
            notes.append(without_images(marked, read_marks(raw, marked), names))
        return [note for note in (*notes, unassigned([case.id for case in self.cases(raw) if not case.split])) if note]

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        entries = [
            Entry(view, role, sequence, phase, frame, path)
            for (view, role, sequence, phase, frame), path in zip(case.args["files"], case.sources, strict=True)
        ]
        return read_images(entries, self.description, case)

    def _studies(self, raw: Path) -> list[FoundStudy]:
        found = (
            listed_studies(self.description, raw) if self.description.datalist else find_studies(self.description, raw)
        )
        if not found:
            raise CinemaError(
                f"{raw} holds no study of {self.name}: looked for {self.looked_for}; give that folder with --raw."
            )
        return found

    def _tables(self, raw: Path) -> list[People]:
        rule = self.description.splits
        split_column = rule.column if rule else ""
        tables = [read_people(raw, table, split_column, self._measured) for table in self.description.tables]
        if split_column and not any(people.splits for people in tables):
            names = ", ".join(table.file for table in self.description.tables) or "no table"
            raise CinemaError(
                f"{self.description.source}: splits.column is '{split_column}', which {names} lacks: name a "
                "column of a table in tables."
            )
        return tables

    def _check_classes(self, rows: Collection[Mapping[str, Any]]) -> None:
        there = {name for row in rows for name in row}
        for column in self.description.classes:
            if column not in there:
                raise CinemaError(
                    f"{self.description.source}: classes.{column} is of no column that the tables give "
                    f"({', '.join(sorted(there)) or 'they give none'}): mend its name."
                )

    @property
    def _measured(self) -> Collection[str]:
        sides = {"lv": LV, "rv": RV}
        there = [side for side, code in sides.items() if self.measures == "volumes" and code in self.labels]
        return {f"{side}_{volume}" for side in there for volume in VOLUMES} | ({"lv_mass"} if there else set())

    def _splits(
        self, studies: Sequence[FoundStudy], subjects: Mapping[str, str], tables: Sequence[People]
    ) -> dict[str, str]:
        given = self.description.splits
        if given is None and any(study.split for study in studies):
            words = {study.id: study.split for study in studies}
            rule = replace(DEFAULT_SPLITS, shares={})
        else:
            rule = given or DEFAULT_SPLITS
            words = {study.id: _word(study, tables) if rule.column else study.split for study in studies}
        return assign(rule, subjects, words, self.description.source)

    def _case(
        self, study: FoundStudy, subject: str, split: str, fields: dict[str, Any], tables: Sequence[People]
    ) -> CaseRef:
        tables_without = [people.path.name for people in tables if not _row(people, study)]
        lacking = len(tables_without) == len(tables) > 0
        warnings = [f"{' and '.join(tables_without)}: no row of it"] if lacking else []
        views = [view for view, files in self.description.views.items() if files.labels]
        warnings += [f"{view}: there is no label map of it" for view in study.without_labels(views)]
        problem = study.problem
        try:
            given = {name: fields.pop(name, None) for name in FRAMES}
            frames = self._frames(study, given, _frames_from(self.description, tables))
        except CinemaError as error:
            frames, problem = {}, problem or str(error)
        if "bmi" not in fields and (bmi := look_up("bmi").of(fields)) is not None:
            fields["bmi"] = bmi
        said = self.description
        sizes = {view: files.pixel_size for view, files in said.views.items() if files.pixel_size}
        args = {
            "files": [entry.place for entry in study.entries],
            # What else decides the bytes, or the cells that go with them.
            "rules": [said.grey_levels, said.by_volume, said.frames_from, sizes],
            **frames,
        }
        paths = tuple(entry.path for entry in study.entries)
        return CaseRef(study.id, subject, split, paths, fields, args, problem, tuple(warnings))

    def _frames(self, study: FoundStudy, given: Mapping[str, Any], first: int | None) -> dict[str, int]:
        """Places of ED and ES in the series, from 0, as a table counts them; none where it does not say both."""
        if any(value is None for value in given.values()):
            return {}
        named = frame_numbers(study.entries, "sax" if "sax" in self.views else self.views[0])
        if not named and first is None:
            raise CinemaError(
                f"{self.description.source}: a table says ED and ES, but not whether the first frame is 0 or 1: add "
                "frames_from: 0 or frames_from: 1"
            )
        out: dict[str, int] = {}
        for name, value in given.items():
            if value != int(value) or (named and value not in named):
                there = f"; its files are frames {min(named)} to {max(named)}" if named else ""
                raise CinemaError(f"{name} is {value:g}, which is no frame{there}")
            out[name] = named[int(value)] if named else int(value) - int(first or 0)
        return out


def _frames_from(description: Description, tables: Sequence[People]) -> int | None:
    """Number of the first frame in the table that names ED and ES."""
    found = [
        people.table.frames_from for people in tables if any(set(FRAMES) & set(row) for row in people.rows.values())
    ]
    return found[0] if found and found[0] is not None else description.frames_from


def _names(people: People, studies: Sequence[FoundStudy]) -> list[str]:
    return [study.id if people.table.by == "id" else study.subject for study in studies]


def _row(people: People, study: FoundStudy) -> Mapping[str, Any]:
    return people.rows.get(study.id if people.table.by == "id" else study.subject, {})


def _word(study: FoundStudy, tables: Sequence[People]) -> str:
    keys = ((people, study.id if people.table.by == "id" else study.subject) for people in tables)
    return next((word for people, key in keys if (word := people.splits.get(key))), "")


def _merged(study: FoundStudy, rows: Sequence[Mapping[str, Any]], tables: Sequence[People]) -> dict[str, Any]:
    out = dict(study.fields)
    for people, row in zip(tables, rows, strict=True):
        twice = [name for name in row if name in out]
        if twice:
            raise CinemaError(
                f"{people.path} has a column for {twice[0]}, and so has another table or the list: rename one of them "
                "under columns in the description."
            )
        out |= row
    return out
