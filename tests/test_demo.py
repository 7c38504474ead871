"""The demo's script, with a stand-in for `cinema`: what is there is gone on with, or put aside with a sentence."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from cinema_lightning.cli import VERBS
from cinema_lightning.configs import list_configs
from cinema_lightning.phantom.subject import draw_subject

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "docs" / "demo.sh"
FAKE = """#!/usr/bin/env bash
printf '%q ' "$@" >>cinema.log; echo >>cinema.log
mkdir -p analysis/key studies
echo page >analysis/key/report.html
printf 'id,quality,reasons,lv_edv,lv_ef\\nkey,%s\\n' "$FOUND" >analysis/results.csv
printf 'id,lv_edv_true,lv_ef_true\\nphantom_00002,243.7,48.46\\n' >studies/phantom_truth.csv
"""


@pytest.fixture
def demo(tmp_path):
    program = tmp_path / "bin" / "cinema"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    def run(found: str = 'refuse,"No LV, was found.",,') -> str:
        command, with_found = ["bash", str(DEMO), "here"], environment | {"FOUND": found}
        return subprocess.run(command, cwd=tmp_path, env=with_found, check=True, capture_output=True, text=True).stdout

    return run


def test_a_demo_that_is_there_is_gone_on_with_or_put_aside(demo, tmp_path):
    said = demo()
    assert "analysis/key/report.html" in said
    assert "Going on" not in said
    assert demo().startswith("Going on with what is in here.")
    assert len((tmp_path / "here" / "cinema.log").read_text().splitlines()) == 16
    (tmp_path / "here" / ".recipe").write_text("another")
    (tmp_path / "here.1").mkdir()
    said = demo()
    assert said.startswith("What was in here is of another version; it is in here.2 now, and the demo starts anew.")
    assert (tmp_path / "here.2" / "cinema.log").is_file()
    assert len((tmp_path / "here" / "cinema.log").read_text().splitlines()) == 8


def test_its_last_line_says_the_numbers_or_that_there_are_none_and_why(demo):
    said = demo()
    none = "no LVEDV is given (true: 244 ml), no LVEF is given (true: 48 %)"
    assert f"analysis: refuse; {none}. Why: No LV, was found." in said
    assert "nan" not in said
    assert "analysis: pass; LVEDV 238 ml (true: 244 ml), LVEF 47 % (true: 48 %).\n" in demo("pass,,238.2,47.1")
    assert "LVEDV 238 ml (true: 244 ml), no LVEF is given (true: 48 %). Why: Few." in demo("warn,Few.,238.2,")


def test_what_the_demo_runs_is_there_and_its_study_was_not_trained_on(demo, tmp_path):
    demo()
    lines = [shlex.split(line) for line in (tmp_path / "here" / "cinema.log").read_text().splitlines()]
    assert {line[0] for line in lines} <= set(VERBS)
    named = {value for line in lines for flag, value in pairwise(line) if flag == "--config"}
    assert named <= {name for name, _ in list_configs()}
    (study,) = (line[1] for line in lines if line[0] == "analyse")
    assert draw_subject(0, int(study[-5:])).split == "test"


def test_the_first_page_shows_the_numbers_of_the_run_that_it_shows_the_pictures_of(tmp_path):
    docs, demo = tmp_path / "docs", tmp_path / "demo"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "demo_pictures.py", docs)
    shutil.copy(ROOT / "README.md", tmp_path)
    for name in ("reconstructions/pictures/a/sax_frame00", "test/pictures/overlays_sax", "test/pictures/lv_ef"):
        (demo / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1200, 400)).save(demo / f"{name}.png")
    (demo / "analysis" / "key").mkdir(parents=True)
    Image.new("RGB", (300, 200)).save(demo / "analysis" / "key" / "sax_ed.png")
    dice = {"metric": "mean_dice", "value": 0.9123, "low": 0.9, "high": 0.92, "n_subjects": 10}
    rows = [dice, {"metric": "lv_ef_mae", "value": 4.06, "low": None, "high": None}]
    (demo / "test" / "summary.json").write_text(json.dumps({"headlines": rows}))
    (demo / "studies").mkdir()
    (demo / "studies" / "phantom_truth.csv").write_text("id,lv_edv_true,lv_ef_true\nphantom_00002,243.7,48.46\n")
    (demo / "analysis" / "results.csv").write_text("id,quality,reasons,lv_edv,lv_ef\nkey,warn,Few frames.,238.2,47.1\n")
    runpy.run_path(str(docs / "demo_pictures.py"))["main"](demo)
    page = " ".join((tmp_path / "README.md").read_text().split())
    assert "10 phantom hearts that were never seen are segmented with a Dice of 0.91 [0.90, 0.92]" in page
    assert "an LVEF of 47% (true: 48%) and an LVEDV of 238 ml (244 ml); the gate warns (Few frames)." in page
    assert all(f"docs/{path.name}" in page and Image.open(path).width <= 760 for path in docs.glob("*.png"))
    assert len(list(docs.glob("*.png"))) == 4
