"""What mkdocs does not find among the pages: README and CONTRIBUTING, and a reference that is made from the code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docstring_parser

import cinema_lightning
from cinema_lightning.cli import VERBS, main
from cinema_lightning.columns import COLUMNS, Column
from cinema_lightning.configs import find_config, list_configs
from cinema_lightning.registry import BACKBONES, DATA, TASKS

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/details.md": "benchmarks_details.md",
}
"""Pages that live beside the code -> their place in the site."""
FILES = {
    "The store": "data.store",
    "The table of a store": "data.table",
    "Plain NIfTI files": "data.nifti",
    "Tables of tests and predictions": "output.parts",
    "Folders of runs": "runs",
    "Weights": "weights.files",
    "Columns of a test": "results.folder",
}
"""Title -> module whose docstring says how files of a kind look."""


def on_config(config: Any) -> Any:
    """Puts pages that the navigation does not name at its end, so that none is out of reach."""
    named = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    there = sorted(path.relative_to(config["docs_dir"]).as_posix() for path in Path(config["docs_dir"]).rglob("*.md"))
    if more := [name for name in there if name not in named]:
        config["nav"].append({"More": more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def pages() -> dict[str, str]:
    """Place in the site -> text of each page that is made."""
    found = {place: moved(source) for source, place in ELSEWHERE.items()}
    makers = (verbs, parts, configs, columns, files, python)
    return found | {f"reference/{make.__name__}.md": make() for make in makers}


def moved(source: str) -> str:
    """A page from beside the code, its links turned towards the site."""
    base = (ROOT / source).parent

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or ":" in target:
            return match[0]
        name = (base / target).resolve().relative_to(ROOT).as_posix()
        return f"{match[1]}({ELSEWHERE.get(name, name.removeprefix('docs/'))}{'#' + anchor if anchor else ''})"

    return re.sub(r"(\[[^]]*\])\(([^)\s]+)\)", link, (ROOT / source).read_text(encoding="utf-8"))


def verbs() -> str:
    """The commands and what their help says."""
    lines = ["# Commands", "", "`cinema VERB --help` says the same.", ""]
    for name, verb in VERBS.items():
        lines += [f"## {name}", "", verb.summary, ""]
        if verb.target:
            lines += ["```text", help_of(name), "```", ""]
        else:
            lines += ["Options are those of [tasks, data and networks](parts.md) and of Lightning's Trainer.", ""]
    return "\n".join(lines)


def help_of(verb: str) -> str:
    """What a verb's help says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    return said.getvalue().strip()


def parts() -> str:
    """Tasks, data modules, networks and the standing options of a run, with their arguments."""
    from cinema_lightning.callbacks.checkpoint import Checkpoints, CleanStop
    from cinema_lightning.callbacks.early_stop import EarlyStop
    from cinema_lightning.callbacks.pictures import Pictures
    from cinema_lightning.data.datamodule import CineDataModule
    from cinema_lightning.data.labelled import LabelledData
    from cinema_lightning.models.encoder import EncoderOptions
    from cinema_lightning.output.predict import PredictionWriter
    from cinema_lightning.output.test import CaseWriter
    from cinema_lightning.tasks.downstream import Downstream
    from cinema_lightning.tasks.optim import Optimisation

    run = {"checkpoint": Checkpoints, "stop": CleanStop, "pictures": Pictures, "early_stop": EarlyStop}
    run |= {"output (predict)": PredictionWriter, "output (test)": CaseWriter, "model.optim": Optimisation}
    lines = ["# Building blocks", "", "What `class_path` in a configuration may name, and `init_args` may say.", ""]
    for title, registry in (("Tasks (model)", TASKS), ("Data (data)", DATA), ("Networks (model.network)", BACKBONES)):
        lines += [f"## {title}", ""]
        for name in registry:
            lines += described(name, registry[name])
    lines += ["## What they share", ""]
    for cls in (Downstream, CineDataModule, LabelledData, EncoderOptions):
        lines += described(cls.__name__, cls)
    lines += ["## Options of a run", ""]
    for name, cls in run.items():
        lines += described(name, cls)
    return "\n".join(lines)


def described(name: str, thing: Any) -> list[str]:
    """A class or function: its summary and its arguments."""
    doc = docstring_parser.parse(inspect.getdoc(thing) or "", docstring_parser.DocstringStyle.GOOGLE)
    lines = [f"### {name}", "", plain(doc.short_description or ""), ""]
    if doc.long_description:
        lines += [plain(doc.long_description), ""]
    known = arguments(thing)
    if doc.params:
        lines += ["| argument | default | |", "|---|---|---|"]
        for param in doc.params:
            default = shown(known.get(param.arg_name))
            lines.append(f"| `{param.arg_name}` | {cell(default)} | {cell(plain(param.description or ''))} |")
        lines.append("")
    if doc.returns and doc.returns.description:
        lines += [f"Returns: {plain(doc.returns.description)}", ""]
    return lines


def shown(parameter: inspect.Parameter | None) -> str:
    """The default of an argument; empty where there is none."""
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return ""
    default = parameter.default
    return f"`{default.__name__ if inspect.isclass(default) else default!r}`"


def arguments(thing: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters of a function, or of a class and those that it stands on."""
    if not inspect.isclass(thing):
        return inspect.signature(thing).parameters
    found: dict[str, inspect.Parameter] = {}
    for base in reversed(inspect.getmro(thing)):
        if "__init__" in vars(base):
            found |= inspect.signature(vars(base)["__init__"]).parameters
    return found


def configs() -> str:
    """The packaged configurations."""
    lines = [
        "# Configurations",
        "",
        "`cinema configs` lists them; `--print_config` shows the whole that they make.",
        "",
    ]
    lines += ["| configuration | |", "|---|---|"]
    rows = list_configs()
    lines += [f"| [{name}](#{anchor(name)}) | {cell(summary)} |" for name, summary in rows]
    for name, _ in rows:
        lines += ["", f"## {name}", "", "```yaml", find_config(name).read_text(encoding="utf-8").strip(), "```"]
    return "\n".join(lines)


def anchor(title: str) -> str:
    """The anchor that a title gets."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def columns() -> str:
    """The columns of the tables."""
    importlib.import_module("cinema_lightning.datasets")
    lines = ["# Columns", "", "Of `cohort.csv`, `cases.csv`, `function.csv`, and of a table of one's own.", ""]
    lines += ["| column | | unit | kind | range or values | groups | follows from |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(column, COLUMNS.values())])


def column(one: Column) -> str:
    """A column as a row."""
    limits = " to ".join(f"{n:g}" for n in one.range) if one.range else ", ".join(one.values)
    groups = ", ".join(f"{n:g}" for n in one.bands or ())
    cells = (f"`{one.name}`", one.display, one.unit, one.kind, limits, groups, ", ".join(one.sources))
    return f"| {' | '.join(map(cell, cells))} |"


def files() -> str:
    """How files look."""
    lines = ["# Files", ""]
    for title, module in FILES.items():
        doc = inspect.getdoc(importlib.import_module(f"cinema_lightning.{module}")) or ""
        lines += [f"## {title}", "", plain(doc), ""]
    return "\n".join(lines)


def python() -> str:
    """What the package offers in Python."""
    from cinema_lightning.inference import results
    from cinema_lightning.inference.features import Features
    from cinema_lightning.inference.model import Model
    from cinema_lightning.inference.spec import ModelSpec

    lines = ["# Python", "", "`import cinema_lightning as cinema`; [five uses](../python.md).", ""]
    things: dict[str, Any] = {f"cinema.{name}": getattr(cinema_lightning, name) for name in cinema_lightning._PLACES}
    things["model(scan)"] = Model.__call__
    own = (one for one in vars(results).values() if getattr(one, "__module__", "") == results.__name__)
    kinds = [one for one in own if inspect.isclass(one) and not one.__name__.startswith("_")]
    for name, thing in (things | {one.__name__: one for one in (ModelSpec, *kinds, Features)}).items():
        lines += described(name, thing)
    return "\n".join(lines)


def plain(text: str) -> str:
    """A docstring as Markdown: roles and double backticks become code."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda match: f"`{match[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"^(=+ +=+ *)$", "", text, flags=re.MULTILINE)


def cell(text: str) -> str:
    """Text that fits into a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
