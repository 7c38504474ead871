"""``cinema view``: the reports of a results folder in the browser of this machine, and of no other."""

from __future__ import annotations

import mimetypes
import secrets
import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cinema_lightning.analysis.write import read_record
from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import list_paths

HERE = "127.0.0.1"
KINDS = {".html", ".csv", ".json", ".png", ".gif"}
"""Endings of what is shown; images of a patient's anatomy (NIfTI) are left where they are."""
VERDICTS = ("pass", "warn", "refuse")
SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def view(results: str, port: int = 0, browser: bool = True) -> None:
    """Shows the reports of a folder of results: list, filter by what the gate said, open one. Ctrl-C ends it.

    Only this machine can reach it, by an address with a secret in it; it shows files of the folder and changes none.

    Args:
        results: Output folder of `cinema analyse`.
        port: Port; 0 takes a free one.
        browser: Open a browser.
    """
    server = serve(Path(results).expanduser(), port)
    print(f"Reports of {results}: {server.address}  (Ctrl-C ends)", flush=True)
    if browser:
        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nEnded.")
    finally:
        server.server_close()


class Server(ThreadingHTTPServer):
    """A server of this machine's own address.

    Args:
        folder: What it shows.
        port: Its port.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.token = secrets.token_urlsafe(24)
        super().__init__((HERE, port), partial(_Pages, folder.resolve(), self.token))

    @property
    def address(self) -> str:
        """Where the list is."""
        return f"http://{HERE}:{self.server_address[1]}/{self.token}/"


def serve(folder: Path, port: int = 0) -> Server:
    """Makes the server of a folder; it runs once ``serve_forever`` is called.

    Raises:
        CinemaError: If there are no results, or the port is taken.
    """
    if not any(read_record(path) for path in list_paths(folder) if path.is_dir()):
        raise CinemaError(f"{folder} holds no results: give the --out of `cinema analyse`.")
    try:
        return Server(folder, port)
    except (OSError, OverflowError) as error:
        raise CinemaError(f"port {port} cannot be used ({error}): leave --port out, and a free one is taken.") from None


class _Pages(BaseHTTPRequestHandler):
    """Answers with the list, or with a file of the folder."""

    def __init__(self, folder: Path, token: str, *arguments: Any) -> None:
        self.folder, self.token = folder, token
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """A page, if the address has the secret and the browser asks for this very machine."""
        parts = urlsplit(self.path)
        own = {f"{name}:{self.connection.getsockname()[1]}" for name in (HERE, "localhost")}
        prefix, _, rest = unquote(parts.path).lstrip("/").partition("/")
        if self.headers.get("Host") not in own or not secrets.compare_digest(prefix.encode(), self.token.encode()):
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is nothing here.")
        if not rest:
            chosen = parse_qs(parts.query).get("quality", [""])[0]
            return self._answer(HTTPStatus.OK, "text/html; charset=utf-8", listing(self.folder, chosen).encode())
        path = self._file(rest)
        if path is None:
            return self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such file.")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return self._answer(HTTPStatus.OK, kind, path.read_bytes())

    def _file(self, rest: str) -> Path | None:
        """A file of the folder that may be shown; None of any other name, also of one that no file can have."""
        try:
            path = (self.folder / rest).resolve()
            hidden = any(part.startswith(".") for part in Path(rest).parts)
            shown = path.is_relative_to(self.folder) and path.is_file() and path.suffix in KINDS and not hidden
        except (OSError, ValueError):
            return None
        return path if shown else None

    def do_HEAD(self) -> None:
        """As :meth:`do_GET`, without content."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**SAFE, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: addresses hold the secret."""


def listing(folder: Path, quality: str = "") -> str:
    """The list of a folder's studies.

    Args:
        folder: Output folder of `cinema analyse`.
        quality: Only those of this verdict; empty shows all.

    Returns:
        HTML.
    """
    from jinja2 import Environment, StrictUndefined

    found = [read_record(path) for path in sorted(list_paths(folder)) if path.is_dir() and path.name[0] != "."]
    records = [record for record in found if record]
    counts = {verdict: sum(record["quality"] == verdict for record in records) for verdict in VERDICTS}
    shown = [record for record in records if quality not in VERDICTS or record["quality"] == quality]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = (files("cinema_lightning.analysis") / "list.html.jinja").read_text("utf-8")
    return environment.from_string(text).render(records=shown, counts=counts, quality=quality, total=len(records))
