"""Real studies, where they are there."""

import json
from zipfile import ZipFile

import pytest

from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.stack import read_slices, stack


@pytest.fixture
def sunnybrook(real):
    """Reads a Sunnybrook study, all slices in one series and folder: its stack, and what is known of it."""

    def read(name: str):
        with ZipFile(real / "dicom" / f"ge_{name}.zip") as archive:
            files = [
                DicomFile(member.rpartition("/")[2], lambda member=member: archive.read(member))
                for member in archive.namelist()
                if member.endswith(".dcm")
            ]
            slices = read_slices({"export": files})
        return stack(slices.cines, slices), json.loads((real / "dicom" / f"ge_{name}_truth.json").read_text())

    return read
