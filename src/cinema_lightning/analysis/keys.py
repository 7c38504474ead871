"""Names without identity: a hash of who it is, keyed with a secret that is kept outside of the results."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import lock, replacing

LENGTH = 12
"""Hexadecimal digits of a key: two of a million studies collide in one of 500 cohorts."""


def keyed(secret: bytes, identity: str) -> str:
    """The name of a study.

    Args:
        secret: The output folder's secret.
        identity: What identifies the study, such as its PatientID and StudyInstanceUID.

    Returns:
        The first 12 hexadecimal digits of HMAC-SHA256.
    """
    return hmac.new(secret, identity.encode(), hashlib.sha256).hexdigest()[:LENGTH]


def beside(out: Path, ending: str) -> Path:
    """A folder that lies beside an output folder, never in it, however that is written (``.``, a link).

    Raises:
        CinemaError: If nothing can lie beside it.
    """
    whole = out.resolve()
    if not whole.name:
        raise CinemaError(f"{out} is no folder for results: give another --out.")
    return whole.with_name(f"{whole.name}.{ending}")


def secret_folder(out: Path) -> Path:
    """Where the secret of an output folder lies."""
    return beside(out, "private")


def archive_folder(out: Path) -> Path:
    """Where the DICOM of an output folder lies."""
    return beside(out, "dicom")


def read_secret(out: Path) -> bytes:
    """The secret of an output folder, made when it is first asked for; shards and resumed runs share it.

    Args:
        out: The output folder.

    Returns:
        32 bytes.

    Raises:
        CinemaError: If it cannot be read or made, or is damaged.
    """
    folder = secret_folder(out)
    path = folder / "secret"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            lock(handle, folder / "lock", wait=True)
            if not path.exists():
                with replacing(path) as temporary:
                    temporary.chmod(0o600)
                    temporary.write_text(secrets.token_hex(32), encoding="ascii")
        finally:
            os.close(handle)
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise CinemaError(f"{path} cannot be made or read ({error.strerror or error}): mend its permissions.") from None
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise CinemaError(f"{path} is damaged: restore it, or move {out} away and start anew.")
    return secret
