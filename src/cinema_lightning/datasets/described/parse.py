"""What a description in YAML may say, checked key by key.

``docs/own_data.md`` shows every key. A description says facts only; nothing of it is run.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cinema_lightning.columns import COLUMNS
from cinema_lightning.configs import read_config
from cinema_lightning.datasets.base import DATASETS, Crop
from cinema_lightning.datasets.described.description import (
    BY_VOLUME,
    SPLITS,
    Description,
    LandmarkTable,
    PeopleTable,
    SplitRule,
    TableColumn,
    ViewFiles,
    structure,
)
from cinema_lightning.datasets.described.patterns import PHASES, Pattern
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS

LARGEST_CODE = 32767
"""Label maps are written with 16 bits."""
CROPS: tuple[Crop, ...] = ("auto", "centre", "none")
MARK_COLUMNS = ("view", "landmark", "x", "y")
KEYS = (
    *("name", "views", "studies", "datalist", "labels", "phases", "frames_from", "tables", "landmarks", "splits"),
    *("spacing", "crop", "grey_levels", "classes"),
)


def read_description(path: Path) -> Description:
    """Reads a description.

    Raises:
        CinemaError: Names the file and the key that is missing, unknown or of another type.
    """
    return parse(read_config(path), str(path))


def parse(content: Mapping[str, Any], source: str) -> Description:
    """Checks what a description says.

    Args:
        content: Its mapping.
        source: The file, for messages.

    Returns:
        The description.

    Raises:
        CinemaError: See :func:`read_description`.
    """
    return _Parser(source).description(content)


class _Parser:
    """Turns plain values into a description, complaining with file and key."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.phases: dict[str, tuple[str, ...]] = dict(PHASES)

    def wrong(self, key: str, what: str) -> CinemaError:
        return CinemaError(f"{self.source}: {key} {what}.")

    def mapping(self, value: Any, key: str, known: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(key, f"is {value!r}; it has to be a mapping of names to values")
        for name in value:
            if known and name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it knows {', '.join(known)}"
                raise CinemaError(f"{self.source}: {key + ' has the' if key else 'the'} unknown key '{name}'; {hint}.")
        return {str(name): item for name, item in value.items()}

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
            raise self.wrong(key, f"is {value!r}; it has to be text")
        return str(value)

    def texts(self, value: Any, key: str) -> tuple[str, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.wrong(key, "is empty")
        return tuple(self.text(item, key) for item in values)

    def numbers(self, value: Any, key: str, count: int) -> tuple[float, ...]:
        good = isinstance(value, list) and len(value) == count
        if not good or not all(_is_number(n) and n > 0 for n in value):
            raise self.wrong(key, f"is {value!r}; it has to be {count} numbers above 0 in mm")
        return tuple(float(n) for n in value)

    def one_of(self, value: Any, key: str, known: Sequence[str]) -> Any:
        if value not in known:
            raise self.wrong(key, f"is {value!r}; it is one of {', '.join(known)}")
        return value

    def pattern(self, value: Any, key: str) -> Pattern:
        try:
            return Pattern.of(self.text(value, key), self.phases)
        except CinemaError as error:
            raise self.wrong(key, str(error)) from None

    def description(self, content: Mapping[str, Any]) -> Description:
        given = self.mapping(content, "", KEYS)
        by_volume = given.get("phases") == BY_VOLUME
        if "phases" in given and not by_volume:
            named = self.mapping(given["phases"], "phases", ("ED", "ES"))
            self.phases |= {phase: self.texts(words, f"phases.{phase}") for phase, words in named.items()}
            both = set(map(str.lower, self.phases["ED"])) & set(map(str.lower, self.phases["ES"]))
            if both:
                raise self.wrong("phases", f"call both ED and ES '{min(both)}'; give each words of its own")
        views = self.views(given.get("views", {}))
        found = Description(
            source=self.source,
            content=given,
            name=self.name(given.get("name")),
            views=views,
            studies=self.pattern(given["studies"], "studies") if "studies" in given else None,
            datalist=self.text(given["datalist"], "datalist") if "datalist" in given else "",
            labels=self.labels(given.get("labels", {})),
            phases=self.phases,
            by_volume=by_volume,
            frames_from=self.frames_from(given.get("frames_from")),
            tables=tuple(self.table(*item) for item in self.mapping(given.get("tables", {}), "tables").items()),
            landmarks=self.landmarks(given["landmarks"]) if "landmarks" in given else None,
            splits=self.splits(given["splits"]) if "splits" in given else None,
            spacing=self.spacing(given.get("spacing", {}), views),
            crop=self.one_of(given.get("crop", "auto"), "crop", CROPS),
            grey_levels=self.one_of(given.get("grey_levels", "percentiles"), "grey_levels", ("percentiles", "as read")),
            classes={
                name: self.texts(classes, f"classes.{name}")
                for name, classes in self.mapping(given.get("classes", {}), "classes").items()
            },
        )
        self.check(found)
        return found

    def name(self, value: Any) -> str:
        if value is None:
            raise self.wrong("name", "is missing: give the dataset a name, such as name: mine")
        name = self.text(value, "name")
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) is None:
            raise self.wrong("name", f"is {name!r}; it names folders: use letters, digits, '_', '-' and '.'")
        if name in DATASETS or name == "phantom":
            raise self.wrong("name", f"is {name}, which is a dataset that is known already; choose another")
        return name

    def views(self, value: Any) -> dict[str, ViewFiles]:
        return {view: self.files(view, files) for view, files in self.mapping(value, "views", tuple(VIEWS)).items()}

    def files(self, view: str, value: Any) -> ViewFiles:
        key = f"views.{view}"
        if isinstance(value, str):
            value = {"images": value}
        given = self.mapping(value, key, ("images", "labels", "pixel_size"))
        if given and "images" not in given:
            raise self.wrong(key, "lacks the key images, the pattern of its files")
        images = given.get("images", {})
        images = images if isinstance(images, dict) else {"": images}
        size = self.numbers(given["pixel_size"], f"{key}.pixel_size", 2) if "pixel_size" in given else None
        return ViewFiles(
            {str(name): self.pattern(pattern, f"{key}.images") for name, pattern in images.items()},
            self.pattern(given["labels"], f"{key}.labels") if "labels" in given else None,
            (size[0], size[1]) if size else None,
        )

    def labels(self, value: Any) -> dict[str, tuple[int, ...]]:
        out: dict[str, tuple[int, ...]] = {"background": (0,)}
        owner: dict[int, str] = {}
        for word, codes in self.mapping(value, "labels").items():
            name = structure(word)
            found = codes if isinstance(codes, list) else [codes]
            if not found or not all(isinstance(code, int) and not isinstance(code, bool) for code in found):
                raise self.wrong(f"labels.{word}", f"is {codes!r}; give the whole number that it has in the label maps")
            if not all(0 <= code <= LARGEST_CODE for code in found):
                raise self.wrong(f"labels.{word}", f"is {codes!r}; codes are 0 to {LARGEST_CODE}")
            if name in out and name != "background":
                raise self.wrong(f"labels.{word}", f"is {name}, which is there already: list its codes in one place")
            out[name] = tuple(found)
        for name, raws in out.items():
            for code in raws:
                if code in owner:
                    raise self.wrong("labels", f"give the code {code} to both {owner[code]} and {name}")
                owner[code] = name
        return out if len(out) > 1 else {}

    def frames_from(self, value: Any, key: str = "frames_from") -> int | None:
        if value not in (None, 0, 1) or isinstance(value, bool):
            raise self.wrong(key, f"is {value!r}; it is 0 or 1, the number of the first frame")
        return None if value is None else int(value)

    def table(self, file: str, value: Any) -> PeopleTable:
        key = f"tables.{file}"
        given = self.mapping(value, key, ("id", "subject", "columns", "frames_from"))
        keys = [name for name in ("id", "subject") if name in given]
        if len(keys) != 1:
            raise self.wrong(key, "needs one of the keys id and subject: the column that says of whom a row is")
        columns = self.mapping(given.get("columns", {}), f"{key}.columns")
        used = {name: self.column(f"{key}.columns.{name}", column) for name, column in columns.items()}
        first = self.frames_from(given.get("frames_from"), f"{key}.frames_from")
        by: Literal["id", "subject"] = "id" if keys[0] == "id" else "subject"
        return PeopleTable(file, by, self.text(given[by], key), used, first)

    def landmarks(self, value: Any) -> LandmarkTable:
        given = self.mapping(value, "landmarks", ("file", "id", "subject", *MARK_COLUMNS, "frame"))
        keys = [name for name in ("id", "subject") if name in given]
        lacking = [name for name in ("file", *MARK_COLUMNS) if name not in given]
        if lacking or len(keys) != 1:
            what = f"the key {lacking[0]}" if lacking else "one of the keys id and subject"
            raise self.wrong("landmarks", f"needs {what}")
        texts = {name: self.text(item, f"landmarks.{name}") for name, item in given.items()}
        by: Literal["id", "subject"] = "id" if keys[0] == "id" else "subject"
        columns = {name: texts[name] for name in MARK_COLUMNS}
        return LandmarkTable(texts["file"], by, texts[by], frame=texts.get("frame", ""), **columns)

    def column(self, key: str, value: Any) -> TableColumn:
        if not isinstance(value, dict):
            return TableColumn(self.text(value, key))
        given = self.mapping(value, key, ("column", "factor", "values"))
        if "column" not in given:
            raise self.wrong(key, "lacks the key column, the column's name in the table")
        factor = given.get("factor")
        if factor is not None and not (_is_number(factor) and factor):
            raise self.wrong(f"{key}.factor", f"is {factor!r}; it has to be a number other than 0")
        if factor is not None and given.get("values"):
            raise self.wrong(key, "has both factor, which is for numbers, and values, which is for words; keep one")
        meanings = self.mapping(given.get("values", {}), f"{key}.values")
        values = {name: "" if meaning is None else str(meaning) for name, meaning in meanings.items()}
        name = key.rpartition(".")[2]
        known = COLUMNS[name].values if name in COLUMNS else ()
        for word, meaning in values.items():
            if known and meaning:
                self.one_of(meaning, f"{key}.values.{word}", known)
        return TableColumn(self.text(given["column"], key), factor, values)

    def splits(self, value: Any) -> SplitRule:
        given = self.mapping(value, "splits", ("column", "values", "folds", "fold", "seed", *SPLITS))
        seed = self.whole(given.get("seed", 0), "splits.seed")
        kinds = [key for key in ("column", "folds", SPLITS) if set([key] if isinstance(key, str) else key) & set(given)]
        if len(kinds) > 1 or not (kinds or "values" in given):
            raise self.wrong(
                "splits", "need one of column, values ({split} in the patterns), folds, and lists or shares"
            )
        values = self.mapping(given.get("values", {}), "splits.values")
        self.no_more_than(given, kinds[0] if kinds else "values")
        for word, split in values.items():
            self.one_of(split, f"splits.values.{word}", (*SPLITS, ""))
        if "column" in given:
            return SplitRule(column=self.text(given["column"], "splits.column"), values=values)
        if "folds" in given:
            folds, fold = (self.whole(given.get(key, 0), f"splits.{key}") for key in ("folds", "fold"))
            if folds < 3 or not 0 <= fold < folds:
                raise self.wrong("splits", f"have {folds} folds, fold {fold}; give 3 folds or more, and one from 0")
            return SplitRule(folds=folds, fold=fold, seed=seed)
        return (
            self.shares({name: given[name] for name in SPLITS if name in given}, seed)
            if kinds
            else SplitRule(values=values)
        )

    def no_more_than(self, given: Mapping[str, Any], kind: Sequence[str]) -> None:
        """Refuses what would be passed over: an option of another kind of splits."""
        drawn = () if any(isinstance(given.get(name), list) for name in SPLITS) else ("seed",)
        known = {"column": ("column", "values"), "folds": ("folds", "fold", "seed"), "values": ("values",)}
        for name in given:
            if name not in known.get(str(kind), (*SPLITS, *drawn)):
                said = kind if isinstance(kind, str) else ", ".join(split for split in kind if split in given)
                raise self.wrong(f"splits.{name}", f"says nothing beside {said}: leave it out")

    def shares(self, given: dict[str, Any], seed: int) -> SplitRule:
        """Lists of names, or shares of the subjects that make 1."""
        if all(isinstance(item, list) for item in given.values()):
            return SplitRule(
                lists={split: self.texts(item, f"splits.{split}") for split, item in given.items() if item}
            )
        if not all(_is_number(item) for item in given.values()):
            raise self.wrong("splits", "mix lists and shares: give a list of names, or a number, for each split")
        total = sum(given.values())
        if min(given.values()) < 0 or abs(total - 1) > 1e-6:
            raise self.wrong("splits", f"are shares that make {total:g}; they have to make 1")
        return SplitRule(shares={split: float(item) for split, item in given.items()}, seed=seed)

    def whole(self, value: Any, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, f"is {value!r}; it has to be a whole number")
        return value

    def spacing(self, value: Any, views: Mapping[str, ViewFiles]) -> dict[str, tuple[float, ...] | None]:
        known = tuple(views) or tuple(VIEWS)
        given = self.mapping(value, "spacing", known)
        return {
            view: None if size == "own" else self.numbers(size, f"spacing.{view}", VIEWS[view].dims)
            for view, size in given.items()
        }

    def check(self, found: Description) -> None:
        """What no key can say by itself."""
        ways = [bool(found.studies), bool(found.datalist), any(files.images for files in found.views.values())]
        if sum(ways) != 1:
            raise self.wrong("it", "needs one of views (patterns), studies (DICOM folders) and datalist (a JSON)")
        if found.by_volume and "LV blood pool" not in found.labels:
            raise self.wrong("phases", f"are {BY_VOLUME}, which needs the LV among the labels")
        named = [table.file for table in found.tables if {"ed_frame", "es_frame"} & set(table.columns)]
        if found.by_volume and named:
            raise self.wrong("phases", f"are {BY_VOLUME}, and tables.{named[0]} names ED and ES, too; keep one of them")
        maps = [view for view, files in found.views.items() if files.labels]
        if maps and not found.labels:
            raise self.wrong(
                "labels", f"is missing: say what the codes in the label maps of {maps[0]} mean, such as LV: 3"
            )
        by_pattern = found.splits and found.splits.values and not found.splits.column and not found.datalist
        if by_pattern and not any("split" in pattern.names for pattern in found.patterns):
            raise self.wrong("splits.values", "mean {split} in the patterns, and no pattern has it")
        for view, files in found.views.items():
            self.check_view(view, files)
        if len({{"id", "subject"} <= pattern.names for pattern in found.patterns}) > 1:
            raise self.wrong("views", "name studies in two ways: use {id}, {subject} or both in all patterns alike")

    def check_view(self, view: str, files: ViewFiles) -> None:
        for pattern in files.images.values():
            if pattern.text.lower().endswith(".png"):
                if view == "sax":
                    raise self.wrong(
                        "views.sax", "is of PNG files, which say nothing of where a slice lies: give NIfTI or DICOM"
                    )
                if files.pixel_size is None:
                    raise self.wrong(f"views.{view}", "needs pixel_size, [x, y] in mm: a PNG does not say it")
            elif files.pixel_size is not None:
                raise self.wrong(f"views.{view}.pixel_size", "is for PNG; leave it out, other files say the size")
        if len(files.images) > 1 and any({"phase", "frame"} & pattern.names for pattern in files.images.values()):
            raise self.wrong(f"views.{view}.images", "are sequences, which have no {phase} and no {frame}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
