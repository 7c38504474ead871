"""Stands in for ``cinema fit`` and ``cinema test`` where a runner is tested: writes what they write, within seconds.

Options of its own come with the cell's: --fake.steps N (of 0.05 s each), --fake.code N (fails with that code),
--fake.until FILE (fails while the file is missing), --fake.seed N (fails for that seed only).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def options(argv):
    found = {}
    rest = iter(argv)
    for argument in rest:
        key, equals, value = argument.partition("=")
        found[key.removeprefix("--")] = value if equals else next(rest)
    return found


def trace(cell: Path, *words: object) -> None:
    with (cell / "trace.txt").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def fail(given) -> None:
    if given.get("fake.seed", given["seed_everything"]) != given["seed_everything"]:
        return
    if "fake.until" in given and Path(given["fake.until"]).exists():
        return
    if code := int(given.get("fake.code", 0)):
        print("Traceback (most recent call last): ...")
        print("cinema fit: the heart of this cell is broken.")
        sys.exit(code)


def fit(given, cell: Path) -> int:
    told = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda n, frame: told.append(signal.Signals(n).name))
    run = cell / "run" / "0"
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("trainer: {accelerator: cpu}\n")
    last = run / "checkpoints" / "last.ckpt"
    done = int(last.read_text()) if last.exists() else 0
    trace(cell, "fit from", done)
    fail(given)
    steps = int(given.get("fake.steps", 2))
    while done < steps:
        time.sleep(0.05)
        done += 1
        if told:
            last.write_text(str(done))
            trace(cell, "stopped by", told[0], "after", done)
            return 75
    last.write_text(str(done))
    (run / "checkpoints" / "best.ckpt").write_text(str(done))
    trace(cell, "trained", done)
    return 0


def test(given, cell: Path) -> int:
    assert given["ckpt_path"] == "best"
    assert (cell / "run" / "0" / "checkpoints" / "best.ckpt").exists()
    folder = Path(given["output.folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.csv").write_text("id,frame,mean_dice\na,0,0.9\n")
    (folder / "test.json").write_text(json.dumps({"kind": "segmentation", "dataset": folder.name}))
    trace(cell, "test", folder.name)
    return 0


def main() -> int:
    verb, given = sys.argv[1], options(sys.argv[2:])
    cell = Path(given["runs"])
    busy = cell / "busy"
    try:
        os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        trace(cell, "TWO AT ONCE")
        return 9
    try:
        return {"fit": fit, "test": test}[verb](given, cell)
    finally:
        busy.unlink()


if __name__ == "__main__":
    sys.exit(main())
