"""UK Biobank's outcome tables, as the showcase, the research platform, R, Stata and Excel write them."""

import pytest

from cinema_lightning.datasets.outcomes import read_outcomes
from cinema_lightning.errors import CinemaError


@pytest.fixture
def outcomes(tmp_path):
    """Reads an outcome table of this content for participants 1000001 and 1000002."""

    def read(content: str, encoding: str = "utf-8"):
        path = tmp_path / "outcomes.csv"
        path.write_bytes(content.encode(encoding))
        return read_outcomes(path, {"1000001", "1000002"})

    return read


@pytest.mark.parametrize(
    "name", ["eid", "EID", "f.eid", "n_eid", "f_eid", "Participant ID", "participant.eid", "participant_id", "XEID"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_names_of_the_participant(name, delimiter, outcomes):
    rows, notes = outcomes(f"Age,{name},sex\n61,1000001,0\n50,9,1\n".replace(",", delimiter))
    assert rows == {"1000001": {"age": 61, "sex": "F"}}
    assert notes == ["outcomes.csv: 1 EIDs have no images, e.g. 9"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_long_cells_and_text(encoding, outcomes):
    codes = "|".join(["I21"] * 60_000)
    rows, _ = outcomes(f'eid,centre,codes,bmi\n1000001,Zürich,{codes},\n"1000002.0",11025,"250,401",25.5\n', encoding)
    assert rows["1000001"] == {"centre": "Zürich", "codes": codes, "bmi": None}
    assert rows["1000002"] == {"centre": "11025", "codes": "250,401", "bmi": 25.5}


def test_a_column_decides_from_all_its_rows(outcomes):
    rows, _ = outcomes("eid;bmi;time\n1000001;25,5;1,200\n1000002;1.023,25;900\n9;20;1,000,000\n")
    assert rows["1000001"] == {"bmi": 25.5, "time": 1200}  # its neighbour without images says what the comma is
    assert rows["1000002"] == {"bmi": 1023.25, "time": 900}
    with pytest.raises(CinemaError, match=r"column 'time': '1\.200' can be 1200 or 1\.200"):  # beside decimal commas
        outcomes("eid;bmi;time\n1000001;1,234;1.200\n1000002;2.345,5;900\n")
    rows, _ = outcomes("eid;bmi;ratio\n1000001;25.5;1.200\n1000002;21;0.900\n")
    assert rows["1000001"] == {"bmi": 25.5, "ratio": 1.2}
    with pytest.raises(CinemaError, match=r"outcomes\.csv, column 'Time': '1,200' can be 1200 or 1\.200"):
        outcomes("eid;Time\n1000001;1,200\n1000002;900\n")
    rows, _ = outcomes("eid;cost\n1000001;1.234.567\n1000002;1.000\n")
    assert [row["cost"] for row in rows.values()] == [1234567, 1000]  # points group thousands, and no comma tells so
    rows, _ = outcomes("eid;cost\n1000001;1'234\n1000002;2 345\n")
    assert [row["cost"] for row in rows.values()] == [1234, 2345]
    with pytest.raises(CinemaError, match=r"'20\.5' has a decimal point and '25,5' a decimal comma"):
        outcomes("eid;bmi\n1000001;25,5\n9;20.5\n")


def test_numbers_as_statistics_programs_write_them(outcomes):
    rows, _ = outcomes("eid,sex,age,pathology\n1000001.0,0.0,NA,NA\n1000002.0,1.0,.,HCM\n")
    assert rows["1000001"] == {"sex": "F", "age": None, "pathology": "NA"}
    assert rows["1000002"] == {"sex": "M", "age": None, "pathology": "HCM"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("participant,age\n1,2\n", "lacks the column 'eid'; it has participant, age"),
        ("eid,Participant ID\n1,1\n", "names participants in 'eid' and 'Participant ID'; leave one"),
        ("eid,Age,age\n1,2,3\n", "has more than one column 'age'"),
        ("eid,split\n1,2\n", "may not have a column 'split'"),
        ("eid,n_slices\n1,2\n", "may not have a column 'n_slices'"),  # the stack's, by which batches are made
        ("eid,n_frames_sax\n1,2\n", "may not have a column 'n_frames_sax'"),
        ("eid,age\n1000001,2\n\n1000001,3\n", "row 4: lists the EID 1000001 twice"),
        ("eid,age\n1000001\n", r"outcomes\.csv, row 2: 1 cells for 2 columns"),
        ("eid,age\n9,5\n1000001,2,3\n", r"outcomes\.csv, row 3: 3 cells for 2 columns"),
    ],
)
def test_what_does_not_fit_is_named(content, message, outcomes):
    with pytest.raises(CinemaError, match=message):
        outcomes(content)


def test_little_of_a_long_table_is_kept(tmp_path):
    import tracemalloc

    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("eid,age,codes\n")
        file.writelines(f"{number},{number % 80},{'I21|' * 20}\n" for number in range(100_000))
    tracemalloc.start()
    rows, notes = read_outcomes(path, {"99999"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows["99999"]["age"] == 99_999 % 80
    assert notes == ["long.csv: 99999 EIDs have no images, e.g. 0, 1, 2, 3, 4"]
    assert peak < path.stat().st_size / 2
