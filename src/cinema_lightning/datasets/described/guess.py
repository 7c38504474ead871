"""``cinema prepare --guess``: a first description of a folder, with what was found and what could not be known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinema_lightning.datasets.described.datalist import LISTS, content_of, read_json, usable_name
from cinema_lightning.datasets.described.description import BY_VOLUME
from cinema_lightning.datasets.described.look import Template, codes_of, dicom_pattern, templates
from cinema_lightning.datasets.described.people import TAKEN
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.listing import list_paths
from cinema_lightning.tables import finite, open_table, read_table

FRAMES = {"ed_frame": r"ed|ed_?frame|ed_?index|end_?diastole", "es_frame": r"es|es_?frame|es_?index|end_?systole"}
SPLIT = r"split|set|subset|partition|fold|cohort_split"
MEASURED = (*(f"{side}_{what}" for side in ("lv", "rv") for what in ("edv", "esv", "ef")), "lv_mass")
MADE_HERE = ("cohort.csv", "versions.json")
"""What lies in stores and runs of ours, which are nobody's raw data."""


@dataclass
class _Guess:
    """A description in the making: its content, and what is to be said beside its keys.

    Attributes:
        content: As a description has it.
        notes: Key -> comment lines above it.
        moving: Whether images have several frames, and label maps several of them.
    """

    content: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    moving: bool = False

    def say(self, key: str, text: str) -> None:
        self.notes.setdefault(key, []).append(text)


def write_guess(folder: Path, *, alone: bool = True) -> int:
    """Writes a description of what a folder seems to hold to ``<name of the folder>.yaml``.

    Args:
        folder: The folder.
        alone: Nothing else was asked for.

    Returns:
        Exit code 0.

    Raises:
        CinemaError: If there is nothing to describe, or the file is there already.
    """
    if not alone:
        raise CinemaError("--guess DIR stands alone: it writes a description, which is prepared afterwards.")
    found = guess(folder)
    path = Path(f"{found.content['name']}.yaml")
    if path.exists():
        raise CinemaError(f"{path} is there already: move it away, and a new description can be written.")
    text = "".join(f"{line}\n" for line in _lines(found))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {path}: look it over, then")
    print(f"  cinema prepare {path} --raw {folder} --out data/{found.content['name']}")
    return 0


def guess(folder: Path) -> _Guess:
    """Looks at a folder.

    Raises:
        CinemaError: If it holds no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CinemaError(f"{folder} is not a folder: give the one that holds your images.")
    found = _Guess()
    found.content["name"] = usable_name(folder.resolve().name)
    json_file = next((path for path in list_paths(folder, "*.json") if _is_list(path)), None)
    if json_file is not None:
        _from_json(found, json_file)
    else:
        _from_files(found, folder)
    return found


def _is_list(path: Path) -> bool:
    try:
        content_of(path)
    except CinemaError:
        return False
    return True


def _from_json(found: _Guess, path: Path) -> None:
    """A JSON that lists or names the files says it all but view and phases."""
    found.content |= {**content_of(path), "name": found.content["name"]}
    found.say("views", f"From {path.name}. It does not say the view; short axis (sax) was taken.")
    if "datalist" in found.content and not any(read_json(path).get(key) for key in LISTS if "val" in LISTS[key]):
        found.say("datalist", "It names nobody who validates: fit sets subjects aside (data.val_fraction).")
    if not found.content.get("labels"):
        found.say("datalist", "It does not say what the codes of its label maps mean: add labels, such as {LV: 3}.")


def _from_files(found: _Guess, folder: Path) -> None:
    files = [path for path in list_paths(folder, "**/*") if path.is_file()]
    made = {path.parent for path in files if path.name in MADE_HERE and path.parent != folder}
    paths = [path for path in files if not made & set(path.parents)]
    groups = templates(folder, paths)
    if not groups:
        pattern = dicom_pattern(folder)
        if not pattern:
            raise CinemaError(f"{folder} holds neither NIfTI, PNG nor folders of DICOM files that could be described.")
        found.content["studies"] = pattern
        found.say("studies", "Folders of DICOM files, one a study; the views are found by where the planes lie.")
        ids = subjects = {path.name for path in folder.glob(pattern.replace("{id}", "*"))}
    else:
        _add_views(found, groups)
        ids, subjects = ({name for group in groups for name in getattr(group, key)} for key in ("ids", "subjects"))
    _add_tables(
        found, folder, [path for path in paths if path.suffix.lower() in (".csv", ".tsv", ".txt")], ids, subjects
    )
    _say_phases(found)
    _add_splits(found, groups)


def _add_views(found: _Guess, groups: Sequence[Template]) -> None:
    views: dict[str, dict[str, Any]] = {}
    images = [group for group in groups if not group.is_label]
    labels = [group for group in groups if group.is_label]
    if not images:
        raise CinemaError(
            f"all files are called label maps, e.g. {groups[0].files[0]}: name the images in a description."
        )
    used: list[Template] = []
    for view, group in _best(images, found).items():
        views[view] = {"images": group.pattern}
        used.append(group)
        found.say("views", f"{view}: {group.pattern}: {len(group.files)} files, {group.frames} frames in the first.")
        if group.pattern.lower().endswith(".png"):
            views[view]["pixel_size"] = [1.0, 1.0]
            found.say("views", f"The size of a pixel of {view} in mm is not known: mend pixel_size.")
    for view, group in _best(labels, found).items():
        if view not in views and len(views) != 1:
            continue
        view = view if view in views else next(iter(views))
        views[view]["labels"] = group.pattern
        used.append(group)
    found.content["views"] = views
    found.moving = any(group.frames > 1 or "{frame}" in group.pattern for group in used if not group.is_label) and any(
        group.frames > 1 or len(group.files) > len(group.ids) for group in used if group.is_label
    )
    if all(group.is_prepared for group in used if not group.is_label):
        found.content |= {"crop": "none", "grey_levels": "as read"}
        found.say("crop", "The images have eight bits and are small: they seem to be cropped and scaled already.")
    numbered = [group for group in used if group.is_label and "{frame}" in group.pattern]
    if numbered and not any("{frame}" in files["images"] for files in views.values()):
        _say_frames(found, {number for group in numbered for number in group.numbers})
    left = [group.pattern for group in groups if group not in used]
    if left:
        found.say("views", f"Not used: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}.")
    maps = [path for group in used if group.is_label for path in group.files]
    if maps:
        codes = codes_of(maps)
        found.content["labels"] = {name: code for code, name in codes.items()}
        found.say("labels", "From the shapes in some label maps: the myocardium is a ring around the LV. Check them.")


def _say_frames(found: _Guess, numbers: set[int]) -> None:
    """Label maps by number of a cine: whether the first frame is 0 or 1, where the numbers tell."""
    found.content["frames_from"] = 0 if 0 in numbers else None
    found.say(
        "frames_from",
        "Frames in the names of label maps: "
        + (
            "a frame 0 is among them."
            if 0 in numbers
            else "is the first frame 0 or 1? It could not be known, as no frame 0 is among them: say frames_from."
        ),
    )


def _best(groups: Sequence[Template], found: _Guess) -> dict[str, Template]:
    """View -> the pattern of most people; of equals the one of more frames."""
    best: dict[str, Template] = {}
    for group in sorted(groups, key=lambda one: (-len(one.ids), -one.frames, one.pattern)):
        view = group.view or "sax"
        if view not in best:
            best[view] = group
            if not group.view and not group.is_label:
                found.say("views", f"No word of {group.pattern} names a view; short axis (sax) was taken.")
    return best


def _add_tables(found: _Guess, folder: Path, paths: Sequence[Path], ids: set[str], subjects: set[str]) -> None:
    tables: dict[str, Any] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            rows, columns = read_table(path), [name for name in open_table(path).columns if name]
        except CinemaError as error:
            found.say("tables", f"{name} was left out: {error}")
            continue
        for by, names in (("id", ids), ("subject", subjects)):
            keys = [column for column in columns if rows and sum(row[column] in names for row in rows) * 2 > len(rows)]
            if keys and name not in tables:
                tables[name] = {by: keys[0], **_columns(found, rows, columns, keys[0], name)}
    if tables:
        found.content["tables"] = tables


def _columns(
    found: _Guess, rows: Sequence[dict[str, str]], columns: Sequence[str], key: str, table: str
) -> dict[str, Any]:
    """What columns mean by their names; those whose names are taken are kept under another."""
    named: dict[str, str] = {}
    by_volume = "labels" in found.content and "views" in found.content
    phase_files = any("{phase}" in str(files.get("images")) for files in found.content.get("views", {}).values())
    for column in columns:
        ours = next((name for name, words in FRAMES.items() if re.fullmatch(words, column, re.I)), "")
        if column == key:
            continue
        if ours and not phase_files and ours not in named:
            named[ours] = column
        elif ours or column in TAKEN or (by_volume and column in MEASURED):
            named[f"given_{column}"] = column
    split = next((column for column in columns if re.fullmatch(SPLIT, column, re.I)), "")
    if split and {row[split].lower() for row in rows} & set(LISTS):
        words = sorted({row[split] for row in rows if row[split]})
        found.content["splits"] = {"column": split, "values": {word: LISTS.get(word.lower(), "") for word in words}}
        named = {name: column for name, column in named.items() if column != split}
    counted = {"ed_frame", "es_frame"} <= set(named)
    first = _first_frame(found, rows, named, table) if counted else {}
    return {**({"columns": named} if named else {}), **first}


def _first_frame(
    found: _Guess, rows: Sequence[dict[str, str]], named: dict[str, str], table: str
) -> dict[str, int | None]:
    numbers = [finite(row[named[name]]) for row in rows for name in ("ed_frame", "es_frame")]
    if 0 not in numbers:
        found.say(
            "tables", f"Is the first frame of ED and ES in {table} 0 or 1? It could not be known: say frames_from."
        )
    return {"frames_from": 0 if 0 in numbers else None}


def _say_phases(found: _Guess) -> None:
    """Which frames of a cine are ED and ES, where neither file names nor a table say it."""
    views = found.content.get("views", {})
    cines = [files for files in views.values() if "{phase}" not in files["images"] and "labels" in files]
    tables = found.content.get("tables", {})
    if not cines or any("ed_frame" in table.get("columns", {}) for table in tables.values()):
        return
    if any("{phase}" in files["labels"] for files in cines):
        found.say(
            "views", "Which frames are ED and ES could not be known: map columns of a table (ed_frame, es_frame)."
        )
    elif found.moving and "LV" in found.content["labels"]:
        found.content["phases"] = BY_VOLUME
        found.say("phases", "Nothing names ED and ES: the frames of the largest and the smallest labelled LV.")


def _add_splits(found: _Guess, groups: Sequence[Template]) -> None:
    words = sorted({word for group in groups for word in group.splits})
    if words and "splits" not in found.content:
        found.content["splits"] = {"values": {word: LISTS.get(word.lower(), "") for word in words}}
        found.say("splits", "By the folders {split}.")
    if "splits" not in found.content:
        found.content["splits"] = {"train": 0.7, "val": 0.1, "test": 0.2, "seed": 0}
        found.say("splits", "Nothing says them: shares of the subjects, drawn with the seed.")


def _lines(found: _Guess) -> Iterator[str]:
    """The description as text, comments above the keys."""
    import yaml

    yield "# A first description, made by looking at the folder: mend what is wrong (docs/own_data.md)."
    for key, value in found.content.items():
        yield from (f"# {note}" for note in found.notes.get(key, []))
        yield from yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True).rstrip().splitlines()
    for key, notes in found.notes.items():
        if key not in found.content:
            yield from (f"# {note}" for note in notes)
