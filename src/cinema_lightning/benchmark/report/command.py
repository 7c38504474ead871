"""`cinema benchmark report`: from folders of results to a page and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cinema_lightning import __version__
from cinema_lightning.benchmark.matrix import Cell, Matrix, read_matrix
from cinema_lightning.benchmark.report import render
from cinema_lightning.benchmark.report.agreement import agreement, repeatability
from cinema_lightning.benchmark.report.cost import cost
from cinema_lightning.benchmark.report.efficiency import label_efficiency_section
from cinema_lightning.benchmark.report.exhibits import exhibits
from cinema_lightning.benchmark.report.fairness import fairness
from cinema_lightning.benchmark.report.gaps import gaps
from cinema_lightning.benchmark.report.gather import arm_order, gather
from cinema_lightning.benchmark.report.index import Index, build_index
from cinema_lightning.benchmark.report.study import BenchmarkStudy, known
from cinema_lightning.benchmark.report.table import Section, counted, listed
from cinema_lightning.benchmark.report.tasks import (
    at_a_glance,
    beside_the_paper,
    disease_detection,
    each_task,
    unseen_data,
)
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.metrics.inference import FEW, LEAST

SECTIONS = (
    each_task,
    label_efficiency_section,
    fairness,
    agreement,
    beside_the_paper,
    unseen_data,
    repeatability,
    disease_detection,
    exhibits,
    cost,
    gaps,
)


def report(
    root: Path | None = None,
    out: Path | None = None,
    config: str | None = None,
    ours: str = "cinema",
    baselines: list[str] | None = None,
) -> int:
    """Gathers whatever is done into one page, and CSV, LaTeX and Markdown tables.

    Args:
        root: Folder of the results, with ``cells/`` and, for those of other tools, ``external/``; in place of the
            YAML's own.
        out: Folder of the report; ``<root>/report`` where none is given.
        config: The benchmark's YAML, by path or packaged name, so that cells that never ran show as missing. Without
            it ``root`` is taken as it is, or, where that is not given either, benchmark.yaml.
        ours: The arm that is compared with all others.
        baselines: The arms it is compared with, in their order; all others where none are given.

    Returns:
        0.

    Raises:
        CinemaError: If there are no results, or a table is malformed.
    """
    cells: Sequence[Cell] = ()
    displays: dict[str, str] = {}
    if config is not None or root is None:
        matrix = read_matrix(config or "benchmark.yaml", root)
        cells, displays, root = matrix.cells, names(matrix), matrix.root
    index = build_index(root, cells)
    if not index.entries:
        raise CinemaError(
            f"There are no results under {root} (cells/**/cases.csv with test.json, or external/): run cells first."
        )
    study = study_of(index, ours, baselines, displays)
    written = write(out if out is not None else root / "report", study, [make(study) for make in SECTIONS])
    folders, comparisons = counted(len(index.entries), "folder"), counted(len(study.comparisons), "comparison")
    print(f"{folders} of results, {comparisons}: {written}")
    return 0


def names(matrix: Matrix) -> dict[str, str]:
    """Names for people, less those that call an arm by its network while other tasks have another network for it."""
    import yaml

    kinds = (yaml.safe_load(matrix.path.read_text(encoding="utf-8")).get("arms") or {}).values()
    found: dict[str, set[str]] = {}
    for arms in kinds:
        for arm, options in (arms or {}).items():
            found.setdefault(f"arm:{arm}", set()).add(str((options or {}).get("display", arm)))
    return {key: text for key, text in matrix.displays.items() if len(found.get(key, ())) < 2}


def study_of(
    index: Index,
    ours: str = "cinema",
    baselines: list[str] | None = None,
    displays: dict[str, str] | None = None,
) -> BenchmarkStudy:
    """Reads the results of an index and computes all figures and differences.

    Args:
        index: Folders of results.
        ours: The arm that is compared with the others.
        baselines: The others, in their order; None takes all.
        displays: Names for people.

    Returns:
        The study.

    Raises:
        CinemaError: If no arm is left, or a table is malformed.
    """
    arms = sorted({key.arm for key in (*index.tested, *index.expected)})
    for arm in baselines or []:
        if arm not in arms:
            raise CinemaError(
                f"--baselines names '{arm}', of which there are no results; the arms are {', '.join(arms)}."
            )
    order = [arm for arm in arm_order(index, ours, baselines) if arm in arms]
    groups = gather(index, ours, baselines)
    if not groups:
        raise CinemaError(
            f"None of the arms {', '.join([ours, *(baselines or [])])} has results; the arms are {', '.join(arms)}."
        )
    study = BenchmarkStudy(index, groups, ours, order, displays or {})
    if ours not in {key.arm for key in index.tested}:
        study.warnings.append(
            f"No results are of the arm '{ours}', so nothing is compared; name another with --ours ({', '.join(arms)})."
        )
    study.compute()
    return study


def write(folder: Path, study: BenchmarkStudy, sections: Sequence[Section]) -> Path:
    """Writes the page, the tables and the CSVs.

    Args:
        folder: Where to.
        study: Figures and differences.
        sections: Sections of the page, without the one that opens it.

    Returns:
        The page's path.
    """
    shown = [at_a_glance(study, sections), *(section for section in sections if section.nothing or not section.empty)]
    every = [part for section in shown for part in section.all()]
    figures = known(study.figures)
    frames = {"figures": figures, "comparisons": study.comparisons}
    frames |= {section.key: section.data for section in every if section.data is not None}
    for name, frame in frames.items():
        if len(frame):
            _write(folder / f"{name}.csv", render.csv(frame))
    for table in (table for section in every for table in section.tables):
        _write(folder / "tables" / f"{table.name}.tex", render.latex(table))
        _write(folder / "tables" / f"{table.name}.md", render.markdown(table))
    footer = f"cinema-lightning {__version__}. A click on a heading sorts its table."
    _write(folder / "report.html", render.page("Benchmark report", _lead(study), shown, footer, _warnings(study)))
    return folder / "report.html"


def _lead(study: BenchmarkStudy) -> list[str]:
    index = study.index
    external = {entry.key for entry in index.entries if entry.external}
    cells = index.tested - external
    if index.expected:
        asked = cells & set(index.expected)
        text = f"Results of {len(asked)} of {len(index.expected)} cells"
        text += f" and of {len(cells - asked)} that the matrix does not have" if cells - asked else ""
    else:
        text = f"Results of {counted(len(cells), 'cell')}"
    text += f"; {len(external)} of other tools." if external else "."
    ours = study.arm_name(study.ours)
    arms = f"Arms: {', '.join(map(study.arm_name, study.order))}. Differences are {ours} less each other arm."
    return [text, arms]


def _warnings(study: BenchmarkStudy) -> list[str]:
    """What a reader has to know before any number."""
    return [*_of_one_training(study), *_of_few_subjects(study)]


def _of_one_training(study: BenchmarkStudy) -> list[str]:
    """Of comparisons; of figures where nothing is compared."""
    compared = study.comparisons if len(study.comparisons) else study.figures[study.figures["n_seeds"] > 0]
    what = "comparison" if len(study.comparisons) else "figure"
    alone = compared[compared["n_seeds"] < 2]
    if not len(alone):
        return []
    which = f"The {what}s" if len(alone) == len(compared) else f"{len(alone)} of {counted(len(compared), what)}"
    return [
        f"{which} rest on one training of an arm: they speak of this training only, not of the method, and none of "
        "them is set in bold. Train with several seeds."
    ]


def _of_few_subjects(study: BenchmarkStudy) -> list[str]:
    figures = known(study.figures)
    few = figures[(figures["n_subjects"] > 0) & (figures["n_subjects"] < FEW)]
    if not len(few):
        return []
    least = few.groupby(["task", "dataset"], sort=False)["n_subjects"].min()
    names = {(group.task, group.dataset): study.title(group) for group in study.groups}
    where = [f"{name} (n {least[key]})" for key, name in names.items() if key in least.index]
    return [
        f"† Fewer than {FEW} subjects, of whom a figure says little; with fewer than {LEAST} it has neither interval "
        f"nor p: {listed(where)}."
    ]


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
