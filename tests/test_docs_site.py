"""The site of the documentation: what is made from the code says all that there is, and no link is dead."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cinema_lightning.cli import VERBS
from cinema_lightning.columns import COLUMNS
from cinema_lightning.configs import list_configs
from cinema_lightning.registry import BACKBONES, DATA, TASKS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    found = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.pages()


def test_the_reference_says_all_that_there_is(pages):
    assert all(f"\n## {verb}\n" in pages["reference/verbs.md"] for verb in VERBS)
    assert "--missing_views" in pages["reference/verbs.md"]
    assert all(f"\n## {name}\n" in pages["reference/configs.md"] for name, _ in list_configs())
    assert all(f"| `{name}` |" in pages["reference/columns.md"] for name in COLUMNS)
    for registry in (TASKS, DATA, BACKBONES):
        assert all(f"\n### {name}\n" in pages["reference/parts.md"] for name in registry)
    assert "| `tokens` | `False` |" in pages["reference/python.md"]


def test_links_and_pictures_lead_somewhere(pages):
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*")} | set(pages)
    written = {
        path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / "docs").rglob("*.md")
    }
    for page, text in (written | pages).items():
        prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)", prose):
            if ":" not in target:
                place = (ROOT / page).parent / target
                assert place.resolve().relative_to(ROOT).as_posix() in there, f"{page} links to {target}"


def test_the_navigation_names_pages_that_are_there(pages):
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = re.findall(r"[\w/-]+\.md", str(config["nav"]))
    assert all(name in pages or (ROOT / "docs" / name).is_file() for name in named)


@pytest.mark.slow
def test_the_site_is_built_without_a_dead_link(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sax_lv_volume" in (tmp_path / "site" / "python" / "index.html").read_text(encoding="utf-8")
