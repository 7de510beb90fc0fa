"""Downloads against a local server that misbehaves, and the npm client against scripts that stand in for it."""

import contextlib
import os
import shutil
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from data_files import PACKAGE, md5

from utils.data import fetch as fetch_module
from utils.data.fetch import fetch, npm_files
from utils.data.specs import DataError

CONTENT = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Answers /<behaviour>; `server.paths` lists what was asked for."""

    def do_GET(self):
        self.server.paths.append(self.path)
        behaviour = self.path.strip("/")
        if behaviour == "missing":
            self.send_error(404)
        elif behaviour.startswith("redirect:"):
            self.send_response(302)
            self.send_header("Location", behaviour.removeprefix("redirect:"))
            self.end_headers()
        elif behaviour == "garbled-length":
            self.answer(CONTENT, "many")
        elif behaviour == "page":
            self.answer(b"<html>please log in</html>")
        elif behaviour == "wrong":
            self.answer(CONTENT[1:] + b"?")
        elif behaviour.startswith("cut"):
            self.answer(CONTENT[: len(CONTENT) * int(behaviour[3:]) // 100], len(CONTENT))
        elif behaviour == "trickle":
            self.answer(b"", len(CONTENT))
            with contextlib.suppress(OSError):  # whoever asked may be gone
                for byte in CONTENT[:100]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
        elif behaviour == "stall":
            self.answer(CONTENT[:100], len(CONTENT))
            time.sleep(1)
        else:
            self.answer(CONTENT)

    def answer(self, content: bytes, length: int | str | None = None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args):
        pass


def serve(context: ssl.SSLContext | None = None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.paths = []
    server.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def plain_server():
    server = serve()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(plain_server, monkeypatch):
    """A server without TLS that `fetch` is told to take for safe."""
    monkeypatch.setattr(fetch_module, "SCHEMES", ("http",))
    return plain_server


def test_a_file_is_fetched_and_its_address_told(server, capsys):
    assert fetch([f"{server.url}/whole"], md5(CONTENT)) == CONTENT
    assert f"fetching {server.url}/whole" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("missing", "HTTP Error 404"),
        ("page", r"\(26 bytes\) has the MD5"),
        ("wrong", rf"has the MD5 {md5(CONTENT[1:] + b'?')}, not {md5(CONTENT)}"),
        ("cut10", "cut off after 1,024 of 10,240 bytes"),
        ("cut50", "cut off after 5,120 of 10,240 bytes"),
        ("cut99", "cut off after 10,137 of 10,240 bytes"),
        ("stall", "timed out"),
        ("trickle", r"took more than 0.6 s for \d+ bytes"),
        ("redirect:ftp://127.0.0.1/x", "ftp://127.0.0.1/x is refused"),
        ("redirect:file:///etc/passwd", "not allowed"),
    ],
)
def test_a_bad_answer_is_named_and_the_next_address_tried(server, monkeypatch, behaviour, message):
    """404, a web page, a wrong checksum, cut at 10, 50 and 99%, silent, too slow, a redirect to ftp or to a file."""
    monkeypatch.setattr(fetch_module, "SOCKET_SECONDS", 0.3)
    monkeypatch.setattr(fetch_module, "FETCH_SECONDS", 0.6)
    with pytest.raises(DataError, match=message):
        fetch([f"{server.url}/{behaviour}"], md5(CONTENT))
    assert fetch([f"{server.url}/{behaviour}", f"{server.url}/whole"], md5(CONTENT)) == CONTENT


def test_a_length_that_is_no_number_does_no_harm(server):
    """A garbled Content-Length."""
    assert fetch([f"{server.url}/garbled-length"], md5(CONTENT)) == CONTENT


def test_an_endless_answer_is_cut(server, monkeypatch):
    """More bytes than the limit."""
    monkeypatch.setattr(fetch_module, "MAX_DOWNLOAD_BYTES", 5000)
    with pytest.raises(DataError, match="sends more than 5,000 bytes"):
        fetch([f"{server.url}/whole"], md5(CONTENT))


def test_every_address_that_failed_is_told(server):
    """404 from the first, a web page from the second."""
    with pytest.raises(DataError, match=r"/missing: .*404.*; .*/page \(26 bytes\)"):
        fetch([f"{server.url}/missing", f"{server.url}/page"], md5(CONTENT))


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
def test_only_https_is_asked(plain_server, scheme):
    """http, ftp and file addresses."""
    url = f"{scheme}{plain_server.url.removeprefix('http')}/whole"
    with pytest.raises(DataError, match=f"{url} is refused: only https is safe"):
        fetch([url], md5(CONTENT))
    assert plain_server.paths == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_https_may_redirect_to_https_but_not_to_http(plain_server, tmp_path, monkeypatch):
    """Two local servers, one with a certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2"
    command = [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    safe = serve(context)
    try:
        assert fetch([f"{safe.url}/redirect:{safe.url}/whole"], md5(CONTENT)) == CONTENT
        with pytest.raises(DataError, match=f"{plain_server.url}/whole is refused"):
            fetch([f"{safe.url}/redirect:{plain_server.url}/whole"], md5(CONTENT))
        assert plain_server.paths == []
    finally:
        safe.shutdown()
        safe.server_close()


def test_npm_packs_into_a_folder_that_is_removed(npm, tmp_path):
    npm('echo "$@" > "$NOTES"; pwd >> "$NOTES"; cp "$ARCHIVE" some-data-1.2.3.tgz')
    assert npm_files(PACKAGE) == {"one": b"first", "two": b"second"}
    arguments, folder = (tmp_path / "notes").read_text().splitlines()
    assert arguments.startswith("pack some-data@1.2.3") and "--ignore-scripts" in arguments
    assert not os.path.exists(folder)


def test_npm_missing(monkeypatch, tmp_path):
    """An empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm is not installed"):
        npm_files(PACKAGE)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo npm error code E404 >&2; exit 3", "npm failed with exit code 3: code E404"),
        ("exit 0", "npm left 0 archives"),
        ('cp "$ARCHIVE" a.tgz; cp "$ARCHIVE" b.tgz', "npm left 2 archives"),
        (
            'cp "$ARCHIVE" some-data-1.2.4.tgz; echo >> some-data-1.2.4.tgz',
            "npm delivered some-data-1.2.4.tgz, whose checksum isn't that of some-data@1.2.3",
        ),
        ("echo > some-data-1.2.3.tgz", "whose checksum isn't that of some-data@1.2.3"),
    ],
)
def test_npm_failing_or_delivering_something_else(npm, script, message):
    """Exit code 3, no archive, two, another version, other bytes."""
    npm(script)
    with pytest.raises(DataError, match=message):
        npm_files(PACKAGE)


def test_npm_hanging_is_ended_with_its_children(npm, monkeypatch, tmp_path):
    """An npm that waits for a child."""
    monkeypatch.setattr(fetch_module, "NPM_SECONDS", 0.5)
    npm('sleep 60 & echo $! > "$NOTES"; wait')
    start = time.monotonic()
    with pytest.raises(DataError, match="npm did not end within 0.5 seconds"):
        npm_files(PACKAGE)
    assert time.monotonic() - start < 5
    child = int((tmp_path / "notes").read_text())
    for _ in range(100):  # init reaps it in its own time
        if not is_running(child):
            return
        time.sleep(0.02)
    pytest.fail("npm's child is still running")


def is_running(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(status) and not status.startswith("Z")
