"""No text of a header reaches a byte that is written, but for what is on the list."""

import base64
import gzip
import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import DicomDictionary

from cinema_lightning.analysis.keys import keyed, read_secret, secret_folder
from cinema_lightning.cli import main

# Elements by which the files are read at all, or whose values are no text; all others get a sentinel.
NEEDED = {
    *("SpecificCharacterSet", "Modality", "ImageType", "PhotometricInterpretation", "PatientSex", "PixelData"),
    *("BurnedInAnnotation", "ComplexImageComponent", "PatientID", "PatientName"),
}
TEXTS = {"LO", "SH", "PN", "ST", "LT", "UT", "UC", "AE", "CS"}
SENTINEL = "SENTINEL"


def _planted(path: Path, number: int, *, all_of_them: bool) -> None:
    """Puts sentinels into text elements, public and private ones."""
    header = pydicom.dcmread(path)
    header.PatientName, header.PatientID = f"{SENTINEL}^NAME", f"{SENTINEL}ID"
    header.PatientBirthDate, header.AccessionNumber = "19010203", f"{SENTINEL}ACC"
    block = header.private_block(0x0021, f"{SENTINEL} MED", create=True)
    block.add_new(1, "LO", f"{SENTINEL} PRIVATE")
    block.add_new(2, "UN", b"SENTINEL BYTES")
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items() if all_of_them else ():
        texts = vr in TEXTS and tag > 0x0003FFFF and keyword and not retired
        if texts and keyword not in NEEDED and keyword not in header:
            setattr(header, keyword, f"{SENTINEL}{number}")
    for keyword in ("SeriesDescription", "StudyDescription", "ProtocolName", "ImageComments", "SequenceName"):
        setattr(header, keyword, f"{SENTINEL} CINE")
    header.save_as(path)


def _bytes(root: Path):
    """Every byte below a folder, unpacked where it is packed, and the names of files."""
    for path in root.rglob("*"):
        yield path, path.name.encode()
        if path.is_file():
            data = path.read_bytes()
            yield path, data  # of what is packed also the names that the packing keeps
            if path.suffix == ".gz":
                yield path, gzip.decompress(data)
            pictures = [data] if path.suffix in (".png", ".gif") else []
            if path.suffix == ".html":
                pictures = [base64.b64decode(one) for one in re.findall(rb"data:image/\w+;base64,([\w+/=]+)", data)]
                assert pictures
            for picture in pictures:
                yield path, picture
                with Image.open(io.BytesIO(picture)) as image:  # text that a PNG may hold packed
                    yield path, repr(image.info).encode()


def _nobody(out: Path, *streams: str) -> int:
    """Finds no person in anything written or said; the number of pieces that were searched."""
    found = [*_bytes(out), *((out, stream.encode()) for stream in streams)]
    for path, data in found:
        for text in (SENTINEL.encode(), b"19010203", b"1.2.826.0.1"):
            assert text not in data, path
    return len(found)


def test_sentinels_are_nowhere(study, network, tmp_path, capsys, caplog):
    """In headers, private ones too, and in names of folders, archives and lists; however a study ends."""
    root, out = tmp_path / f"{SENTINEL} DOE", tmp_path / "out"
    folder = study().write(root / f"{SENTINEL}^one")
    for number, path in enumerate(sorted(folder.iterdir())):
        _planted(path, number, all_of_them=number % 50 == 0)
    # The same in what fails: two persons, files cut short, a value that is none, an archive of a text.
    persons = shutil.copytree(folder, root / f"persons {SENTINEL}")
    other = pydicom.dcmread(next(persons.glob("009x*")))
    other.PatientName, other.StudyInstanceUID = f"{SENTINEL}^OTHER", "1.2.3"
    other.save_as(next(persons.glob("009x*")))
    cut = shutil.copytree(folder, root / "cut")
    for path in cut.iterdir():
        path.write_bytes(path.read_bytes()[:-3000])
    odd = shutil.copytree(folder, root / "odd")
    for path in odd.iterdir():
        data = path.read_bytes()
        path.write_bytes(data.replace(b"60\\", b"SENTINEL")[: len(data)])
    archive = root / f"{SENTINEL}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(f"{SENTINEL}/{SENTINEL}.txt", SENTINEL)
    places = [str(place) for place in (folder, persons, cut, odd, archive)]
    assert main(["analyse", *places, "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert _nobody(out, said.out, said.err, caplog.text) > 60
    record = json.loads(next(out.glob("*/result.json")).read_text())
    assert record["person"] == {"sex": "F", "age": "50", "aged": False, "height": 1.7, "weight": 70.0}
    # Corrected, by a file whose name tells, and resumed.
    where = root / f"{SENTINEL}.yaml"
    shutil.copy(out / record["id"] / "sax.nii.gz", root / f"{SENTINEL}.nii.gz")
    where.write_text(f"masks: {{sax: {SENTINEL}.nii.gz}}\nes: 5\nseries: {{sax: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}")
    for more, code in (["--corrections", str(where)], 0), ([], 0):
        assert main(["analyse", places[0], "--out", str(out), *more]) == code
        said = capsys.readouterr()
        assert _nobody(out, said.out, said.err, caplog.text) > 60
    assert json.loads((out / record["id"] / "result.json").read_text())["corrections"]


def test_the_error_of_a_single_study_names_nobody(study, network, tmp_path, capsys):
    folder = study(slices=2).write(tmp_path / f"{SENTINEL}^DOE", ("SAX",))
    for number, path in enumerate(folder.iterdir()):
        _planted(path, number, all_of_them=False)
    (tmp_path / SENTINEL).mkdir()
    for place, sentence in ((folder, "no cine of a view"), (tmp_path / SENTINEL, "the study holds no files")):
        assert main(["analyse", str(place), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert SENTINEL not in error


def test_nifti_names_nobody(network, tmp_path, capsys, caplog):
    x, y = np.indices((32, 32)) - 16
    frames = np.where(np.hypot(x, y) < 6, 1000, 60)[..., None, None] * np.ones((1, 1, 7, 4))
    frames[14:18, 14:18, :, 2] = 60
    image = nibabel.Nifti1Image(frames.astype(np.int16), np.diag([2.0, 2.0, 9.0, 1.0]))
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = SENTINEL.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", SENTINEL.encode()))
    place, out = tmp_path / f"{SENTINEL}^DOE" / f"{SENTINEL}.nii.gz", tmp_path / "out"
    place.parent.mkdir()
    nibabel.save(image, place)
    assert main(["analyse", str(place), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert _nobody(out, said.out, said.err, caplog.text) > 10
    assert nibabel.load(next(out.glob("*/sax.nii.gz"))).header["descrip"].tobytes().strip(b"\0") == b""
    nibabel.save(image.slicer[..., :1], place)
    assert main(["analyse", str(place), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "the SAX file holds one frame" in error
    assert SENTINEL not in error


@pytest.mark.parametrize("tags", [{"PatientAge": "093Y"}, {"PatientAge": "", "PatientBirthDate": "19301231"}])
def test_old_people_are_90_and_more(tags, study, network, tmp_path):
    folder = study(tags=tags).write(tmp_path / "s", ("SAX",))
    assert main(["analyse", str(folder), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "results.csv").read_text()
    assert not [path for path, data in _bytes(tmp_path / "out") if b"19301231" in data or b"1930-12-31" in data]
    assert ",90+," in text
    assert "93" not in {cell for line in text.splitlines() for cell in line.split(",")}


def test_names_are_keyed_with_a_secret_outside_of_the_results(tmp_path):
    out = tmp_path / "out"
    first = read_secret(out)
    assert read_secret(out) == first  # shards and resumed runs agree
    assert read_secret(tmp_path / "other") != first
    assert secret_folder(out).parent == out.parent
    path = secret_folder(out) / "secret"
    assert path.stat().st_mode & 0o077 == 0
    assert secret_folder(out).stat().st_mode & 0o077 == 0
    assert keyed(first, "P|1") == keyed(first, "P|1") != keyed(first, "P|2")
    assert len(keyed(first, "P|1")) == 12
