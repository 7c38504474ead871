"""Tables written in parts survive kills and merge."""

import pandas as pd
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.output.parts import PartTable
from cinema_lightning.shards import Shard


def row(sample, frame):
    return {"id": sample, "frame": frame, "value": frame * 0.5}


def test_shards_cover_every_id_once():
    ids = [f"s{i:02d}" for i in range(11)]
    parts = [Shard.parse(f"{i}/3").of(ids) for i in (1, 2, 3)]
    assert sorted(sample for part in parts for sample in part) == ids


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_wrong_shard_is_refused(text):
    with pytest.raises(CinemaError, match="3/8"):
        Shard.parse(text)


def test_a_torn_line_costs_its_row_only(tmp_path):
    table = PartTable(tmp_path, "t", Shard())
    part = table.new_part(0)
    part.write([row("a", 0), row("a", 1), row("b,1", 0)])
    part.close()
    with part.path.open("a") as file:
        file.write('"b,1",1,0.')
    assert table.done() == {("a", 0), ("a", 1), ("b,1", 0)}
    again = table.new_part(0)
    again.write([row("b,1", 1)])
    again.close()
    merged = pd.read_csv(table.finish())
    assert merged[["id", "frame"]].values.tolist() == [["a", 0], ["a", 1], ["b,1", 0], ["b,1", 1]]
    assert not (tmp_path / ".parts").exists()


def test_shards_merge_when_the_last_is_done_and_not_before(tmp_path):
    for index in (2, 1):
        table = PartTable(tmp_path, "t", Shard(index, 2))
        part = table.new_part(0)
        part.write([row(sample, 0) for sample in Shard(index, 2).of("abcd")])
        part.close()
        target = table.finish()
        assert (tmp_path / "t.csv").exists() == (index == 1)
        assert table.finished
    assert target == tmp_path / "t.csv"
    assert pd.read_csv(target)["id"].tolist() == list("abcd")


def test_parts_of_different_tables_do_not_mix(tmp_path):
    table = PartTable(tmp_path, "t", Shard())
    for columns in ({"id": "a", "frame": 0, "x": 1.0}, {"id": "b", "frame": 0, "y": 1.0}):
        part = table.new_part(0)
        part.write([columns])
        part.close()
    with pytest.raises(CinemaError, match="different columns"):
        table.finish()
