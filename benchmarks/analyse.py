"""Evidence about `cinema analyse` on phantom studies: sorting, EDV and EF, the gate, intervals, and what it costs.

Every study goes the whole way, from DICOM of three vendors' habits to numbers. Masks are those of a small network that
has learnt on other phantoms (`--weights`, or trained here for some minutes); with `--truth` the phantom's own labels.
Run it with `python benchmarks/analyse.py --json FILE`; `--only sorting gate` runs parts, `--quick` a tenth of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analyse_network import train
from analyse_studies import LEVEL, PhantomStudy, Truth, levels, make, sources
from cinema_lightning.analysis.conformal import calibrate, fewest, interval
from cinema_lightning.analysis.heart import heart_of
from cinema_lightning.analysis.networks import load_networks
from cinema_lightning.analysis.segment import segment
from cinema_lightning.analysis.sort import read_dicom
from cinema_lightning.analysis.study import judged
from cinema_lightning.analysis.values import LV, Measured, Result, Study
from cinema_lightning.data.draws import generator
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

PARTS = ("sorting", "function", "gate")
SEED, EACH = 43, 5
"""Limits of the gate were chosen on subjects of seeds 40 to 42; those of 43 had no say in them."""
QUANTITIES = ("lv_edv", "lv_esv", "lv_ef", "lv_mass", "rv_edv", "rv_esv", "rv_ef")
CALIBRATION, SPLITS = 39, 20
WORST_DICE, HEADERS = 0.7, (6.0, 8.0, 12.0)


def read(study: PhantomStudy, index: int) -> tuple[Study, dict[int, str]]:
    """Writes a study and reads it again; the view of each of its series by number."""
    files, truth = sources(study, index)
    return read_dicom(files, str), truth


def analysed(study: PhantomStudy, index: int, network: Any) -> Result:
    """A study as `cinema analyse` analyses it; None as network takes the labels."""
    found, _ = read(study, index)
    view = found.views.get("sax")
    if view is None:
        return judged(Result(found, {}, Measured({})))
    look, heart = (Truth(study), None) if network is None else (network, heart_of(found.views))
    return judged(Result(found, {"sax": segment(view, look, heart=heart)}, Measured({})))


def sorting(count: int) -> dict[str, Any]:
    """How many studies come out as they are, with what abstained, and what went wrong."""
    lines = []
    for index in range(count):
        study = make(SEED, index)
        found, truth = read(study, index)
        wrong = [line for line in found.series if line.taken_for not in ("none", truth[line.number])]
        missed = [line for line in found.series if line.taken_for == "none" != truth[line.number]]
        verdict = "wrong" if wrong else "abstained" if missed else "right"
        told = [f"{truth[line.number]} taken for {line.taken_for}: {line.why}" for line in [*wrong, *missed]]
        lines.append({"index": index, "habit": study.habit, "verdict": verdict, "told": told})
        if told:
            print(f"  study {index} ({study.habit}): {'; '.join(dict.fromkeys(told))}", flush=True)
    return {"n": count, **Counter(line["verdict"] for line in lines), "studies": lines}


def errors(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Bias, its SD and the mean absolute error of each number; studies without one are left out."""
    out = {}
    for name in QUANTITIES:
        known = [row for row in rows if row["found"].get(name) is not None]
        off = np.array([row["found"][name] - row["truth"][name] for row in known])
        if len(off) > 1:
            facts = {"bias": off.mean(), "sd": off.std(ddof=1), "mae": np.abs(off).mean(), "n": len(off)}
            out[name] = {key: float(value) for key, value in facts.items()}
    return out


def good(count: int, network: Any, first: int = 0) -> list[dict[str, Any]]:
    """Studies that nothing is wrong with: their numbers, and what the gate says of them."""
    rows = []
    for index in range(first, first + count):
        study = make(SEED, index, views=False)
        result = analysed(study, index, network)
        told = [check.name for check in result.checks if check.verdict != "pass"]
        numbers = {name: result.measured.numbers.get(name) for name in QUANTITIES}
        rows.append({"index": index, "quality": result.quality, "told": told, "found": numbers, "truth": study.truth})
        if told:
            print(f"  good study {index} ({study.heart.subject.pathology}): {'; '.join(result.reasons)}", flush=True)
    return rows


@dataclass(frozen=True)
class Case:
    """A study that is to be spoilt.

    Attributes:
        study: The study as it should be.
        index: Number of its subject; even ones are scanned from the base on.
        rng: Chooses slices.
        network: What will segment it; None for the labels.
    """

    study: PhantomStudy
    index: int
    rng: np.random.Generator
    network: Any


def _lv(study: PhantomStudy) -> np.ndarray:
    """Slices with LV at ED."""
    volumes = (study.sax.labels == LV).sum(axis=(1, 2, 3))
    return np.flatnonzero((study.sax.labels[int(volumes.argmax())] == LV).any(axis=(0, 1)))


def _kept(study: PhantomStudy, slices: Sequence[int], places: Sequence[int] | None = None) -> PhantomStudy:
    """The same with some slices only, at other places where these are given."""
    scan, kept = study.scans[0], list(slices)
    scan = replace(scan, images=scan.images[..., kept], places=tuple(places or kept))
    return replace(study, scans=(scan,), sax=replace(study.sax, labels=study.sax.labels[..., kept]))


def _with(study: PhantomStudy, **changes: Any) -> PhantomStudy:
    return replace(study, scans=(replace(study.scans[0], **changes),))


def _end_missing(case: Case, base: bool) -> PhantomStudy:
    lv, depth = _lv(case.study), case.study.sax.labels.shape[3]
    first = base == (case.index % 2 == 0)
    return _kept(case.study, range(lv[0] + 2, depth) if first else range(lv[-1] - 1))


def _gap(case: Case) -> PhantomStudy:
    missing = int(case.rng.choice(_lv(case.study)[2:-2]))
    return _kept(case.study, [z for z in range(case.study.sax.labels.shape[3]) if z != missing])


def _exchanged(case: Case) -> PhantomStudy:
    lv = _lv(case.study)[1:-1]
    first = int(case.rng.integers(len(lv) - 2))
    second = int(case.rng.integers(first + 2, len(lv)))
    order = list(range(case.study.sax.labels.shape[3]))
    order[lv[first]], order[lv[second]] = order[lv[second]], order[lv[first]]
    return _kept(case.study, range(len(order)), order)


def _noisy(case: Case) -> PhantomStudy | None:
    """As much noise as it takes until the masks fail; labels never do."""
    if case.network is None:
        return None
    spoilt, clean = case.study, case.study.scans[0].images / float(LEVEL)
    for sd in (0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2):
        noise = case.rng.normal(0, sd, (2, *clean.shape))
        spoilt = _with(case.study, images=levels(np.hypot(clean + noise[0], noise[1])))
        if _dice(spoilt, case) < WORST_DICE:
            break
    return spoilt


def _dice(study: PhantomStudy, case: Case) -> float:
    """Mean Dice of the LV at ED and ES."""
    found, _ = read(study, case.index)
    view, clean = found.views["sax"], np.moveaxis(study.sax.labels, 0, -1) == LV
    curve = clean.sum(axis=(0, 1, 2))
    # GE's phases are in the order of the times, as they were made.
    frames = [int(curve.argmax()), int(curve.argmin())]
    part = replace(view, frames=view.frames[..., frames], phases=(0, 1))
    mask = segment(part, case.network, heart=heart_of({"sax": view})).labels == LV
    same = np.dot(view.affine[:3, 2], study.sax.affine[:3, 2]) > 0
    truth = (clean if same else clean[:, :, ::-1])[..., frames]
    both = (mask & truth).sum(axis=(0, 1, 2))
    return float((2 * both / (mask.sum(axis=(0, 1, 2)) + truth.sum(axis=(0, 1, 2)))).mean())


def _contradicting(case: Case) -> PhantomStudy:
    """The header gives the thickness, or another protocol's distance."""
    return _with(case.study, tags={**case.study.scans[0].tags, "SpacingBetweenSlices": float(case.rng.choice(HEADERS))})


def _half(case: Case) -> PhantomStudy:
    """As many frames as ever, of the first half of the beat; every other study does not say how long the beat is."""
    half = make(SEED, case.index, views=False, beat=0.5)
    return _with(half, share=0.5, says_beat=case.index % 2 == 0)


def _another(case: Case) -> PhantomStudy:
    """A slice of another person who lay as this one did, in the middle of whose LV it is."""
    study, other = case.study, make(SEED, case.index + 500, views=False)
    here, there = int(case.rng.choice(_lv(study)[2:-2])), int(np.median(_lv(other)))
    images, labels = study.scans[0].images.copy(), study.sax.labels.copy()
    images[..., here], labels[..., here] = other.scans[0].images[..., there], other.sax.labels[..., there]
    return replace(_with(study, images=images), sax=replace(study.sax, labels=labels))


SPOILINGS: dict[str, Callable[[Case], PhantomStudy | None]] = {
    "two slices missing at the base": partial(_end_missing, base=True),
    "two slices missing at the apex": partial(_end_missing, base=False),
    "a slice missing in the middle": _gap,
    "two slices exchanged": _exchanged,
    "noise until Dice < 0.7": _noisy,
    "header contradicts positions": _contradicting,
    "half a beat": _half,
    "another person's slice": _another,
}


def gate(each: int, network: Any) -> dict[str, Any]:
    """What the gate says of spoilt studies."""
    lines = []
    for kind, (name, spoil) in enumerate(SPOILINGS.items()):
        for index in range(200 + kind * EACH, 200 + kind * EACH + each):
            rng = generator(SEED, "analyse", "spoilt", index)
            study = spoil(Case(make(SEED, index, views=False), index, rng, network))
            if study is None:
                continue
            try:
                result = analysed(study, index, network)
                told = [f"{check.verdict}: {check.sentence}" for check in result.checks if check.verdict != "pass"]
                quality = result.quality
            except CinemaError as error:
                quality, told = "refuse", [str(error)]
            lines.append({"kind": name, "index": index, "quality": quality, "told": told})
            print(f"  {name}, study {index} ({study.habit}): {quality}", flush=True)
    caught = Counter(line["kind"] for line in lines if line["quality"] != "pass")
    refused = Counter(line["kind"] for line in lines if line["quality"] == "refuse")
    of = Counter(line["kind"] for line in lines)
    kinds = {kind: {"caught": caught[kind], "refused": refused[kind], "of": of[kind]} for kind in of}
    return {"n": len(lines), "caught": sum(caught.values()), "kinds": kinds, "studies": lines}


def coverage(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Share of true values inside 90% intervals, over random splits into calibration and test subjects."""
    out = {}
    for name in QUANTITIES:
        pairs = [(row["truth"][name], row["found"][name]) for row in rows if row["found"].get(name) is not None]
        count, inside = min(CALIBRATION, 2 * len(pairs) // 3), []
        if count < fewest(0.9):
            continue
        for split in range(SPLITS):
            order = generator(SEED, "analyse", "split", split).permutation(len(pairs))
            known, new = (np.array([pairs[k] for k in part]) for part in (order[:count], order[count:]))
            scores = calibrate(known[:, 0], known[:, 1], np.zeros(count))
            ends = [interval(name, value, 0.0, scores, 0.9)[:2] for value in new[:, 1]]
            inside += [low <= true <= high for true, (low, high) in zip(new[:, 0], ends, strict=True)]
        out[name] = float(np.mean(inside))
    return out


def main() -> None:
    """Prints the table and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/analyse"))
    parser.add_argument("--weights", type=str, default=None)
    parser.add_argument("--truth", action="store_true", help="masks are the phantom's own labels")
    parser.add_argument("--epochs", type=int, default=6, help="length of the training, where there are no weights")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--subjects", type=int, default=60, help="studies to sort, and good ones to measure")
    parser.add_argument("--each", type=int, default=EACH, help="studies that are spoilt in each way")
    parser.add_argument("--quick", action="store_true", help="six subjects, one spoilt in each way, one epoch")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    count, each = (6, 1) if given.quick else (given.subjects, given.each)
    start, out = time.perf_counter(), {}
    network = None
    if not given.truth and {"function", "gate"} & set(given.only):
        weights = given.weights or train(given.folder, 1 if given.quick else given.epochs)
        network = load_networks([weights]).masks["sax"]
    if "sorting" in given.only:
        out["sorting"] = sorting(count)
        print({key: value for key, value in out["sorting"].items() if key != "studies"})
    if "function" in given.only:
        rows = good(count, network)
        out["good"] = {"n": count, **Counter(row["quality"] for row in rows), "studies": rows}
        out["errors"], out["coverage"] = errors(rows), coverage(rows)
        print(out["good"]["n"], Counter(row["quality"] for row in rows), out["errors"], out["coverage"])
    if "gate" in given.only:
        out["gate"] = gate(each, network)
        print(out["gate"]["caught"], "of", out["gate"]["n"], out["gate"]["kinds"])
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps({**out, "seconds": time.perf_counter() - start}, indent=1, default=float))


if __name__ == "__main__":
    main()
