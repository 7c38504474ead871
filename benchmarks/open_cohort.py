"""Time to open a cohort of up to 75,000 studies: read the table, split it, order the first epoch's batches.

    python benchmarks/open_cohort.py [--rows 1000 10000 75000] [--json FILE]

The table is made up in a temporary folder with all the columns of a prepared UK Biobank cohort; 10% of the studies lack
views and some subjects have two visits.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cinema_lightning.data.table import read_cohort, write_cohort
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.views import VIEWS
from common import clock

TARGET_S = 2.0


def make_table(root: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        views = [view for view in VIEWS if rng.random() > 0.025] or ["sax"]
        row = {
            "id": f"{1000000 + i // 2 if i % 10 == 1 else 1000000 + i}_{2 + (i % 10 == 1)}",
            "subject": str(1000000 + i // 2 if i % 10 == 1 else 1000000 + i),
            "split": "",
            "views": " ".join(views),
            "n_frames": 50,
            "n_slices": int(rng.integers(8, 13)),
            "ed_frame": "",
            "es_frame": "",
        }
        for view in VIEWS:
            row |= {f"orig_{view}_spacing_{axis}": round(float(rng.uniform(1, 2)), 4) for axis in "xyz"}
        row |= dict.fromkeys(("lv_edv", "lv_esv", "lv_ef", "rv_edv", "rv_esv", "rv_ef", "lv_mass"), "")
        row |= {"age": int(rng.integers(45, 85)), "sex": "MF"[int(rng.integers(2))], "height": 1.7, "weight": 76.5}
        row |= {"bmi": 26.5, "pathology": "", "vendor": "SIEMENS", "centre": 11025, "field_strength": 1.5}
        row |= {"time": int(rng.integers(1, 3000)), "event": int(rng.integers(2))}
        rows.append(row)
    write_cohort(root, rows)


def measure(root: Path, batch_size: int, now: Callable[[], float]) -> dict[str, float]:
    times = {}
    start = now()
    read_cohort(root)
    times["read the table"] = now() - start
    start = now()
    data = PretrainData(str(root), batch_size=batch_size, num_workers=0)
    data.setup("fit")
    times["read, split, plan (setup)"] = now() - start
    assert data.train_sampler is not None
    iterator = iter(data.train_sampler)
    next(iterator)
    times["all to the first batch"] = now() - start
    for _ in iterator:
        pass
    times["all to the epoch's last batch"] = now() - start
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 75_000])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu_time", action="store_true", help="count core seconds, on a busy machine")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {}
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            make_table(Path(folder), rows)
            size = (Path(folder) / "cohort.csv").stat().st_size
            runs = [measure(Path(folder), args.batch_size, clock(args.cpu_time)) for _ in range(args.repeats)]
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(f"{rows} rows, {size / 1e6:.1f} MB, medians of {args.repeats}; target {TARGET_S} s to the first batch")
        for key, value in medians.items():
            print(f"  {key:32s} {value:6.2f} s")
        print(f"  first run (with imports)         {runs[0]['all to the first batch']:6.2f} s")
        found[str(rows)] = medians
    if args.json:
        args.json.write_text(json.dumps({"target": TARGET_S, "rows": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
