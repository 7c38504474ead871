"""``cinema.analyse`` is the function, whatever was imported before."""

import cinema_lightning
from cinema_lightning.analysis import study


def test_the_function_is_found_after_its_room_was_imported():
    assert cinema_lightning.analyse is study.analyse
    assert cinema_lightning.analyse is study.analyse  # the second time, too
