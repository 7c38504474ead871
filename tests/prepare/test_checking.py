"""``cinema verify`` in several processes, in shards and over several starts: the same report, and each study once."""

import csv
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare import checking, verify
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.tables import LANDMARKS, merge_parts

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"
COPIES = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twelve studies, all in the training split but two, one of them broken."""
    root = tmp_path_factory.mktemp("store")
    prepare("acdc", GOLDEN / "raw" / "acdc", root)
    rows = read(root / "cohort.csv")
    for copy in range(1, COPIES):
        for row in rows[:2]:
            name = f"{row['id']}_{copy}"
            shutil.copytree(root / row["id"], root / name)
            rows.append(row | {"id": name, "subject": name})
    write(root / "cohort.csv", rows)
    image = root / rows[5]["id"] / "sax.b2nd"
    image.write_bytes(image.read_bytes()[:60])
    return root


@pytest.fixture
def store(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "store"))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def left(store):
    return sorted(path.name for path in store.glob("verify*"))


def test_workers_and_shards_change_nothing(store, tmp_path, monkeypatch, capsys):
    assert main(["verify", "acdc", "--root", str(store)]) == 1
    wanted = (store / "verify.csv").read_bytes()
    assert b"cut short" in wanted
    monkeypatch.setattr(checking, "CHUNK", 2)
    other = tmp_path / "other.csv"
    assert main(["verify", "acdc", "--root", str(store), "--report", str(other), "--workers", "2"]) == 1
    assert other.read_bytes() == wanted
    (store / "verify.csv").unlink()
    codes = [main(["verify", "acdc", "--root", str(store), "--shard", f"{part}/3"]) for part in (3, 1, 2)]
    assert sorted(codes) == [0, 1, 1], "the shard of the broken study, and the last, which joins them"
    assert (store / "verify.csv").read_bytes() == wanted
    assert left(store) == ["verify.csv"]
    assert "the last of 3 shards to end writes" in capsys.readouterr().out


def test_more_shards_than_studies(store):
    for part in range(1, 2 * COPIES + 3):
        verify.verify("acdc", store, shard=f"{part}/{2 * COPIES + 2}")
    assert len(read(store / "verify.csv")) > 0


def test_shards_of_another_table_are_not_joined(store):
    verify.verify("acdc", store, shard="1/2")
    rows = read(store / "cohort.csv")
    write(store / "cohort.csv", [{**rows[0], "sex": "W"}, *({**row, "sex": "M"} for row in rows[1:])])
    verify.verify("acdc", store, shard="2/2")
    assert not (store / "verify.csv").exists()
    verify.verify("acdc", store, shard="1/2")
    assert any("sex is 'W'" in row["message"] for row in read(store / "verify.csv"))


def test_a_study_that_changed_after_its_shard_is_checked_again(store):
    broken = next(row for row in read(store / "cohort.csv")[5:])["id"]
    verify.verify("acdc", store, shard="2/2")  # the broken study is the sixth
    shutil.copy(store / read(store / "cohort.csv")[0]["id"] / "sax.b2nd", store / broken / "sax.b2nd")
    verify.verify("acdc", store, shard="1/2")
    assert not any("cut short" in row["message"] for row in read(store / "verify.csv"))


@pytest.fixture
def counted(monkeypatch):
    """Ids that were checked, in this process."""
    ids = []
    check = verify.check_study

    def counting(reader, root, row, *rest):
        ids.append(row["id"])
        return check(reader, root, row, *rest)

    monkeypatch.setattr(verify, "check_study", counting)
    monkeypatch.setattr(checking, "CHUNK", 2)
    return ids


def test_a_stopped_run_goes_on(store, counted, monkeypatch, capsys):
    check = verify.check_study

    def stopping(reader, root, row, *rest):
        if len(counted) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return check(reader, root, row, *rest)

    monkeypatch.setattr(verify, "check_study", stopping)
    assert verify.verify("acdc", store) == 128 + signal.SIGTERM
    assert "Stopped after 4 of 12 studies" in capsys.readouterr().out
    assert left(store) == ["verify.unfinished.json"]
    assert verify.verify("acdc", store) == 1
    assert sorted(counted) == sorted(row["id"] for row in read(store / "cohort.csv")), "each study once"
    assert left(store) == ["verify.csv"]


def test_duplicate_ids_cost_no_square(store, counted):
    rows = read(store / "cohort.csv")[:2]
    write(store / "cohort.csv", [row for row in rows for _ in range(10_000)])
    marks = [dict.fromkeys(LANDMARKS, "1") | {"id": row["id"], "view": "sax"} for row in rows for _ in range(10_000)]
    write(store / "landmarks.csv", marks)
    assert verify.verify("acdc", store) == 1
    assert sorted(counted) == sorted(row["id"] for row in rows), "their files are checked once"
    found = [row["message"] for row in read(store / "verify.csv") if row["check"] == "ids"]
    assert found == [f"the id '{row['id']}' is in 10000 rows; ids must be there and unique" for row in rows]


def test_joining_parts_with_duplicate_ids_costs_no_square(tmp_path):
    for part in ("1-of-2", "2-of-2"):
        for name in ("failures", "warnings"):
            (tmp_path / f"{name}.{part}.csv").write_text("id,step,reason\n")
        (tmp_path / f"cohort.{part}.csv").write_text("id\n" + "\n".join(f"s{i}" for i in range(30_000)))
    began = time.process_time()
    with pytest.raises(CinemaError, match="list the id 's0' twice"):
        merge_parts(tmp_path, 2)
    assert time.process_time() - began < 20, "a square takes minutes"


def test_classes_that_a_split_lacks_are_said(store):
    rows = read(store / "cohort.csv")
    for row, split, pathology in zip(
        rows, ("val", "val", *["train"] * 9, "test"), ("DCM",) * 3 + ("NOR",) * 9, strict=True
    ):
        row.update(split=split, pathology=pathology)
    write(store / "cohort.csv", rows)
    verify.verify("acdc", store)
    found = [row["message"] for row in read(store / "verify.csv") if row["check"] == "classes"]
    assert "no training study has pathology 'HCM'" in found
    assert "no validation study has pathology 'NOR'" in found
    assert "no test study has pathology 'DCM'" in found
    assert "all validation studies have pathology 'DCM': MCC and AUROC are not defined" in found
    assert not any(
        "all training" in message or "no validation study has pathology 'DCM'" in message for message in found
    )


def test_a_number_of_workers_that_makes_no_sense(store):
    with pytest.raises(CinemaError, match="--workers is 0; give 1 or more"):
        verify.verify("acdc", store, workers=0)
    with pytest.raises(CinemaError, match="such as 3/8"):
        verify.verify("acdc", store, shard="9/3")
