"""The cohort table and its splits."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cinema_lightning.data import table
from cinema_lightning.data.splits import limit_subjects, split_rows
from cinema_lightning.errors import CinemaError


def rows(n, **more):
    return [{"id": f"{i:04d}_2", "subject": f"{i:04d}", "views": ["sax", "lax_4c"], **more} for i in range(n)]


def cohort(root, given):
    table.write_cohort(root, given)
    return table.read_cohort(root)


def text(root, content, encoding="utf-8"):
    (root / "cohort.csv").write_bytes(content.encode(encoding))


def test_round_trip(tmp_path):
    opened = cohort(tmp_path, [*rows(2, age=61.5), {"id": "NA", "views": "sax", "pathology": "DCM"}])
    assert opened.ids.tolist() == ["0000_2", "0001_2", "NA"]
    assert opened.table["subject"].tolist() == ["0000", "0001", "NA"]  # without a subject, the id is one
    assert table.views_of(int(opened.view_masks[0])) == ("sax", "lax_4c")
    assert opened.table["views"][0] == "sax lax_4c"
    assert np.array_equal(opened.numbers("age"), [61.5, 61.5, np.nan], equal_nan=True)
    assert np.isnan(opened.numbers("nothing")).all()
    assert isinstance(opened.reader, table.StoreReader)


def test_a_number_that_is_none(tmp_path):
    opened = cohort(tmp_path, [*rows(2, age=61), {"id": "x", "views": "sax", "age": "old"}])
    with pytest.raises(CinemaError, match=r"row 'x' has 'old' in column age, which is not a number"):
        opened.numbers("age")


def test_write_leaves_the_previous_table_when_it_fails(tmp_path, monkeypatch):
    import pandas as pd

    table.write_cohort(tmp_path, rows(2))
    before = (tmp_path / "cohort.csv").read_bytes()

    def full(self, path, **options):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(CinemaError, match=r"No space left on device.*untouched"):
        table.write_cohort(tmp_path, rows(3))
    assert (tmp_path / "cohort.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.csv"]


def test_no_folder_and_empty_folder(tmp_path):
    with pytest.raises(CinemaError, match=r"no data folder .*nowhere: .*cinema prepare.*cinema phantom --out DIR"):
        table.read_cohort(tmp_path / "nowhere")
    with pytest.raises(CinemaError, match=r"neither cohort\.csv nor NIfTI files.*cinema phantom --out DIR"):
        table.read_cohort(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"cohort\.csv is empty: .*cinema prepare"),
        ("id,views\n", r"cohort\.csv has no rows: .*cinema prepare"),
        ("id,split\na,train\n", "has no column 'views'"),
        ("views\nsax\n", "has no column 'id'"),
        ("id,views\na,sax\na,sax\n", "lists the id 'a' more than once"),
        ("id,views\na,sax\n,sax\n", "row 3 has no id"),
        ("id,views\n../a,sax\n", r"id '\.\./a', which is no folder name"),
        ("id,views\na,sax lax_5c\n", "row 'a' names the view 'lax_5c'; the views are sax, lax_2c"),
        ("id,views,split\na,sax,training\n", "row 'a' has split 'training'; a split is train, val, test or empty"),
        ('id,views\na,"sax\nb,sax\n', "row 2: unexpected end of data; mend the quotes"),
        ("id,views\na,sax\nb,sax,1,2\n", "row 3: 4 cells for 2 columns"),
        ("id,views,age\na,sax,1\n\nb,sax\n", "row 4: 2 cells for 3 columns"),
        ("id,views,age,age\na,sax,1,2\n", "has more than one column 'age'"),
    ],
)
def test_unusable_tables(tmp_path, content, message):
    text(tmp_path, content)
    with pytest.raises(CinemaError, match=message) as caught:
        table.read_cohort(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_as_a_spreadsheet_saves_it(tmp_path, encoding, delimiter):
    lines = [
        'id,"views",centre,bmi',
        "",
        '01,"sax lax_4c",Köln,"1.023,5"',
        "02,sax,,24",
        ",,,",
        '03,sax,"a',
        'b","2,75"',
    ]
    rows = "\r\n".join(line.replace(",", delimiter) for line in lines)
    rows = rows.replace(f"3{delimiter}5", "3,5").replace(f"2{delimiter}75", "2,75")  # decimal commas stay
    text(tmp_path, rows, encoding)
    opened = table.read_cohort(tmp_path)
    assert opened.ids.tolist() == ["01", "02", "03"]
    assert table.views_of(int(opened.view_masks[0])) == ("sax", "lax_4c")
    assert opened.texts("centre")[:2] == ["Köln", None]
    assert opened.numbers("bmi").tolist() == [1023.5, 24, 2.75]


def test_numbers_that_can_be_read_in_two_ways(tmp_path):
    text(tmp_path, "id;views;lv_edv\na;sax;1,234\nb;sax;2,345\n")
    opened = table.read_cohort(tmp_path)  # refused where the column is used, not before
    with pytest.raises(CinemaError, match=r"column 'lv_edv': '1,234' can be 1234 or 1\.234"):
        opened.numbers("lv_edv")


def test_delimiters_at_the_end_of_rows(tmp_path):
    text(tmp_path, "id,views,,age,\na,sax,x,3,\nb,sax,,4,,,\n")
    opened = table.read_cohort(tmp_path)
    assert opened.ids.tolist() == ["a", "b"]
    assert opened.numbers("age").tolist() == [3, 4]


def test_the_tables_split_is_followed(tmp_path):
    given = rows(5)
    for row, split in zip(given, ["train", "val", "test", "", "train"], strict=True):
        row["split"] = split
    opened = cohort(tmp_path, given)
    with pytest.warns(UserWarning, match="1 rows without a split are left out"):
        splits = split_rows(opened, 0.5, 0)
    assert {key: value.tolist() for key, value in splits.items()} == {"train": [0, 4], "val": [1], "test": [2]}


@pytest.mark.parametrize(
    ("others", "mine", "said"),
    [
        (["train", "val"], ["train", "val"], "in train and in val"),
        (["train", "val"], ["train", "test"], "in train and in test"),
        (["train", "val"], ["val", "test"], "in val and in test"),
        (["train", "train"], ["train", "test"], "in train and in test"),
        (["", ""], ["", "test"], "without a split and in test"),
        (["val", "val"], ["val", "test"], "in val and in test"),
    ],
)
def test_a_subject_on_two_sides(tmp_path, others, mine, said):
    given = [{**row, "split": split} for row, split in zip(rows(4), [*others, *mine], strict=True)]
    given[2]["subject"] = given[3]["subject"] = "p"
    with pytest.raises(CinemaError, match=f"subject 'p' has rows {said}; give all rows of a subject the same split"):
        split_rows(cohort(tmp_path, given), 0.1, 0)
    given[3]["subject"] = "q"
    split_rows(cohort(tmp_path, given), 0.1, 0)


def test_the_split_is_by_subject_and_keyed_on_the_seed(tmp_path):
    given = [{**row, "subject": f"p{i // 3}", "split": "test" if i < 6 else "train"} for i, row in enumerate(rows(300))]
    opened = cohort(tmp_path, given)
    splits = split_rows(opened, 0.1, 1)
    subjects = opened.table["subject"].to_numpy()
    assert splits["test"].tolist() == list(range(6))
    assert len(splits["val"]) == 30 == 3 * len(set(subjects[splits["val"]]))
    assert not set(subjects[splits["val"]]) & set(subjects[splits["train"]])
    assert sorted(np.concatenate(list(splits.values()))) == list(range(300))
    assert np.array_equal(splits["val"], split_rows(opened, 0.1, 1)["val"])
    assert not np.array_equal(splits["val"], split_rows(opened, 0.1, 2)["val"])


def test_a_subjects_side_hardly_depends_on_the_others(tmp_path):
    few = split_rows(cohort(tmp_path / "a", rows(200)), 0.2, 0)["val"]
    many = split_rows(cohort(tmp_path / "b", rows(220)), 0.2, 0)["val"]
    assert len(set(few) & set(many)) >= 0.8 * len(few)


@pytest.mark.parametrize(("n", "fraction", "wanted"), [(1, 0.1, 0), (2, 0.1, 1), (3, 0.9, 2), (10, 0.0, 0)])
def test_small_cohorts_keep_someone_on_each_side(tmp_path, n, fraction, wanted):
    assert len(split_rows(cohort(tmp_path, rows(n)), fraction, 0)["val"]) == wanted


def test_a_fraction_out_of_range(tmp_path):
    with pytest.raises(CinemaError, match="val_fraction is 1"):
        split_rows(cohort(tmp_path, rows(3)), 1, 0)


def test_limit_subjects(tmp_path):
    opened = cohort(tmp_path, [{**row, "subject": f"p{i // 2}"} for i, row in enumerate(rows(40))])
    every = np.arange(40)
    five, ten = (limit_subjects(opened, every, limit, 0) for limit in (5, 10))
    assert len(five) == 10
    assert set(five) < set(ten)
    assert np.array_equal(limit_subjects(opened, every, 99, 0), every)


def test_no_folder_is_listed(tmp_path, monkeypatch):
    """75,000 studies: only the table is read."""
    table.write_cohort(tmp_path, rows(75_000))
    monkeypatch.setattr("os.scandir", lambda *_: pytest.fail("a folder was listed"))
    monkeypatch.setattr("os.listdir", lambda *_: pytest.fail("a folder was listed"))
    start = time.perf_counter()
    opened = table.read_cohort(tmp_path)
    split_rows(opened, 0.1, 0)
    assert time.perf_counter() - start < 4  # benchmarks/open_cohort.py measures; this only guards
