"""Whole files and locks, also where the file system knows neither permissions nor locks."""

import errno
import fcntl
import os
import warnings
from pathlib import Path

import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import lock, replacing


@pytest.fixture
def refusing(monkeypatch):
    """Makes a system call end with an error."""

    def refuse(module, name: str, number: int) -> None:
        def call(*_args, **_options):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(module, name, call)

    return refuse


def test_a_file_is_written_without_chmod(tmp_path, refusing):
    for name in ("chmod", "fchmod"):
        refusing(os, name, errno.EPERM)
    refusing(Path, "chmod", errno.EPERM)
    with replacing(tmp_path / "new" / "table.csv") as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("a\n")
    assert (tmp_path / "new" / "table.csv").read_text() == "a\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.csv"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").write_text("")
    with replacing(tmp_path / "table.csv") as temporary:
        temporary.write_text("")
    assert (tmp_path / "table.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_failed_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("earlier")
    with pytest.raises(CinemaError, match=r"table\.csv could not be written \(No space"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_locks_the_work_goes_on_with_a_warning(number, tmp_path, refusing):
    refusing(fcntl, "flock", number)
    with (tmp_path / "lock").open("w") as file, pytest.warns(UserWarning, match="lock cannot be locked on this file"):
        assert lock(file.fileno(), tmp_path / "lock")


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_holds(number, tmp_path, refusing):
    refusing(fcntl, "flock", number)
    with (tmp_path / "lock").open("w") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not lock(file.fileno(), tmp_path / "lock")


def test_one_holder_at_a_time(tmp_path):
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        assert lock(first.fileno(), tmp_path / "lock")
        assert not lock(second.fileno(), tmp_path / "lock")
        first.close()
        assert lock(second.fileno(), tmp_path / "lock")
