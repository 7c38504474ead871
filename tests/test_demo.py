"""The demo's script, with a stand-in for `cinema`: what is there is gone on with, or put aside with a sentence."""

from __future__ import annotations

import os
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from cinema_lightning.cli import VERBS
from cinema_lightning.configs import list_configs
from cinema_lightning.phantom.subject import draw_subject

DEMO = Path(__file__).parents[1] / "docs" / "demo.sh"
FAKE = """#!/usr/bin/env bash
printf '%q ' "$@" >>cinema.log; echo >>cinema.log
mkdir -p analysis/key studies
echo page >analysis/key/report.html
printf 'id,quality,reasons,lv_edv,lv_ef\\nkey,refuse,"No LV, was found.",,\\n' >analysis/results.csv
printf 'id,lv_edv_true,lv_ef_true\\nphantom_00002,243.7,48.46\\n' >studies/phantom_truth.csv
"""


@pytest.fixture
def demo(tmp_path):
    program = tmp_path / "bin" / "cinema"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    def run() -> str:
        command = ["bash", str(DEMO), "here"]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    return run


def test_a_demo_that_is_there_is_gone_on_with_or_put_aside(demo, tmp_path):
    said = demo()
    assert "analysis: refuse; LVEDV nan ml (true 244), LVEF nan % (true 48). No LV, was found." in said
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


def test_what_the_demo_runs_is_there_and_its_study_was_not_trained_on(demo, tmp_path):
    demo()
    lines = [shlex.split(line) for line in (tmp_path / "here" / "cinema.log").read_text().splitlines()]
    assert {line[0] for line in lines} <= set(VERBS)
    named = {value for line in lines for flag, value in pairwise(line) if flag == "--config"}
    assert named <= {name for name, _ in list_configs()}
    (study,) = (line[1] for line in lines if line[0] == "analyse")
    assert draw_subject(0, int(study[-5:])).split == "test"
