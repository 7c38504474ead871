"""Tables of users: encodings, delimiters, rows that do not fit, and commas in numbers."""

import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.tables import column_numbers, open_table, read_table

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_spelling_gives_the_same_rows(encoding, delimiter, end, tmp_path):
    lines = [
        ["id", "name", "age"],
        ["1", "Müller", " 61 "],
        ["2", f"'x{delimiter}y'", ""],
        [],
        ["3", "'two", "lines'", "4"],
    ]
    text = (
        end.join(delimiter.join(cells) for cells in lines)
        .replace("'", '"')
        .replace(f"two{delimiter}lines", f"two{end}lines")
    )
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "t.csv", ("id", "age")) == [
        {"id": "1", "name": "Müller", "age": "61"},
        {"id": "2", "name": f"x{delimiter}y", "age": ""},
        {"id": "3", "name": f"two{end}lines", "age": "4"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\n1,2,3\n1,2\n", r"t\.csv, row 3: 2 cells for 3 columns"),
        ("a,b,c\n\n1,2,3,4\n", r"t\.csv, row 3: 4 cells for 3 columns"),
        ('a,b\n"x\ny",2\n1\n', r"t\.csv, row 3: 1 cells for 2 columns"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"t\.csv, row 3: unexpected end of data; mend the quotes"),
        ("a,b,a\n1,2,3\n", r"t\.csv has more than one column 'a'"),
        ("a,c\n1,2\n", r"t\.csv lacks the column 'b'; it has a, c"),
        ("", r"t\.csv lacks the column 'a'; it has none"),
        (b"PK\x03\x04 a workbook", r"t\.csv is a workbook or an archive and no text table: save it as CSV"),
        (b"\xff\xfea\x00,\x00b", r"t\.csv is cut short or no text"),
    ],
)
def test_what_does_not_fit_is_named(content, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CinemaError, match=message) as caught:
        read_table(tmp_path / "t.csv", ("a", "b"))
    assert "\n" not in str(caught.value)


def test_delimiters_at_the_end_and_columns_without_a_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\n;a;b;;\n0;1;2;;\n1;3;4\n2;5;6;;;;\n")
    assert read_table(path, ("a", "b")) == [{"": n, "a": a, "b": b} for n, a, b in ("012", "134", "256")]


def test_without_a_header(tmp_path):
    (tmp_path / "t.csv").write_text("x;1,5\n\ny;2,25\n")
    rows = read_table(tmp_path / "t.csv", ("name", "value"), numbers=("value",), header=False)
    assert rows == [{"name": "x", "value": "1.5"}, {"name": "y", "value": "2.25"}]


def test_the_wanted_columns_decide_between_delimiters(tmp_path):
    (tmp_path / "t.csv").write_text("eid;Diagnosis, main, ICD\n1;x, y, z\n2;u, v, w\n")
    assert open_table(tmp_path / "t.csv").columns == ("eid", "Diagnosis, main, ICD")
    (tmp_path / "t.csv").write_text("eid\n1\n")
    assert open_table(tmp_path / "t.csv").columns == ("eid",)


def test_a_table_decides_where_points_alone_do_not(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1.234;12,5\n")
    assert read_table(tmp_path / "t.csv", numbers=("a",)) == [{"a": "1.234", "b": "12,5"}]
    with pytest.raises(CinemaError, match=r"column 'a': '1\.234' can be 1234 or 1\.234, and no other"):
        read_table(tmp_path / "t.csv", numbers=("a", "b"))


def test_a_cell_of_a_megabyte(tmp_path):
    (tmp_path / "t.csv").write_text(f"a,b\n1,{'x' * 2**20}\n")
    assert len(read_table(tmp_path / "t.csv")[0]["b"]) == 2**20


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.5", "", "x"], [1.5, None, None]),
        (["1.234,5", "2", "1.234"], [1234.5, 2, 1234]),
        (["1,234.5", "1,234"], [1234.5, 1234]),
        (["12,5", "1,234"], [12.5, 1.234]),
        (["12.5", "1,234"], [12.5, 1234]),
        (["1,234,567"], [1234567]),
        (["1.234.567", "1.234"], [1234567, 1234]),
        (["0,123"], [0.123]),
        (["1234,567"], [1234.567]),
        (["-1,5", "+2", "1,5e3"], [-1.5, 2, 1500]),
        (["1 234,5", "1'234"], [1234.5, 1234]),
        (["1.234", "2.345"], [1.234, 2.345]),
        (["NA", "nan", "inf", "1,2,3", "12,5"], [None, None, None, None, 12.5]),
    ],
)
def test_a_column_decides_together(cells, values):
    assert column_numbers(cells, "t.csv, column 'a'") == values


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234", "5"], r"column 'a': '1,234' can be 1234 or 1\.234, and no other cell"),
        (["1,234", "1.234"], r"'1,234' can be 1234 or 1\.234"),
        (["12,5", "12.5"], "'12.5' has a decimal point and '12,5' a decimal comma"),
        (["1.234,5", "1,234.5"], "'1,234.5' has a decimal point and '1.234,5' a decimal comma"),
    ],
)
def test_a_column_that_cannot_be_decided_is_refused(cells, message):
    with pytest.raises(CinemaError, match=message):
        column_numbers(cells, "t.csv, column 'a'")
