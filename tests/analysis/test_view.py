"""The local page: only with its secret, only from this machine, only files of the folder, and read-only."""

import http.client
import json
import threading
from urllib.request import urlopen

import pytest

from cinema_lightning.analysis.view import serve
from cinema_lightning.errors import CinemaError


@pytest.fixture
def server(tmp_path):
    out = tmp_path / "out"
    for key, quality in (("aa11", "pass"), ("bb22", "refuse")):
        (out / key).mkdir(parents=True)
        record = {"id": key, "quality": quality, "views": {"sax": {}}, "numbers": {"lv_ef": 61.26}, "reasons": ["<b>x"]}
        (out / key / "result.json").write_text(json.dumps(record))
        (out / key / "report.html").write_text(f"report of {key}")
        (out / key / "sax.nii.gz").write_bytes(b"voxels")
    (tmp_path / "secret.csv").write_text("outside")
    (out / "link.csv").symlink_to(tmp_path / "secret.csv")
    made = serve(out)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def answer(server, path, method="GET", host=None):
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    found = connection.getresponse()
    return found.status, found.read()


def test_list_filter_and_open(server):
    assert server.server_address[0] == "127.0.0.1"
    with urlopen(server.address) as page:
        text = page.read().decode()
        assert "script" not in page.headers["Content-Security-Policy"]
    assert "aa11" in text
    assert "61.3" in text
    assert "<b>x" not in text  # shown as text
    assert answer(server, f"/{server.token}/aa11/report.html") == (200, b"report of aa11")
    refused = answer(server, f"/{server.token}/?quality=refuse")[1].decode()
    assert "bb22" in refused
    assert "aa11/report" not in refused
    assert answer(server, f"/{server.token}/", "HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv",
        "%2e%2e/secret.csv",
        "link.csv",
        "aa11/sax.nii.gz",
        "aa11",
        "/etc/passwd",
        ".hidden.csv",
        "%00.csv",
        "x" * 300,
    ],
)
def test_nothing_outside_the_folder(server, path):
    assert answer(server, f"/{server.token}/{path}")[0] == 404


def test_not_without_the_secret_nor_under_another_name(server):
    assert answer(server, "/")[0] == 404
    assert answer(server, "/wrong/aa11/report.html")[0] == 404
    assert answer(server, f"/{server.token}/", host="evil.example")[0] == 404


def test_read_only(server):
    for method in ("POST", "PUT", "DELETE"):
        assert answer(server, f"/{server.token}/aa11/report.html", method)[0] == 501


def test_no_results_and_no_port(tmp_path, server):
    with pytest.raises(CinemaError, match="no results"):
        serve(tmp_path / "none")
    with pytest.raises(CinemaError, match="cannot be used"):
        serve(tmp_path / "out", server.server_address[1])
