"""Readers of foreign formats: right on the formats' own terms, and deaf to hostile files."""

import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from data_files import gz, idx, python2_pickle, strips, tgz, tiny_cifar10
from PIL import Image

from utils.data.formats import (
    MAX_MEMBER_BYTES,
    cifar_from_strips,
    gunzip,
    read_cifar_batch,
    read_idx,
    read_strip,
    read_tar,
)
from utils.data.specs import DataError


def test_idx_reads_axes_in_order_and_returns_writable_arrays():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    read = read_idx(idx(array))
    assert read.flags.writeable and read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01" + bytes(8), "magic number is 0x00000d01"),
        (b"\x00\x00\x08\x00", "magic number is 0x00000800"),
        (b"\x00\x00\x08", "magic number is 0x000008,"),
        (b"", "magic number is 0x,"),
        (gz(idx(np.zeros(3, np.uint8))), "which is gzip"),
        (b"<!DOCTYPE html>", "magic number is 0x3c21444f"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"shape \[2, 3\] has 18 bytes, not 17"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "18 bytes, not 19"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31), "bytes, not 16"),
    ],
)
def test_idx_names_a_wrong_magic_or_size(content, message):
    """Gzip where raw is due, a web page, a byte too few and too many, a claim of 2^93 bytes."""
    with pytest.raises(DataError, match=message):
        read_idx(content)


@pytest.mark.parametrize("content", [gz(b"abc" * 99)[:-1], gz(b"abc")[:12], b"abc", gz(b"abc")[:-8] + bytes(8)])
def test_gunzip_refuses_what_is_no_whole_gzip_file(content):
    """Truncated, not packed at all, a wrong checksum."""
    with pytest.raises(DataError, match="not a whole gzip file"):
        gunzip(content)


def member(name: str, kind: bytes, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def test_members_off_the_list_are_passed_over_and_nothing_is_extracted(tmp_path, monkeypatch):
    """Names with `../`, absolute ones, symbolic and hard links, a device."""
    monkeypatch.chdir(tmp_path)
    absolute = tmp_path / "absolute"
    hostile = [
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "package/a"),
        member("null", tarfile.CHRTYPE),
    ]
    files = {"../up": b"1", str(absolute): b"2", "package/a": b"right", "package/../package/a": b"wrong"}
    archive = tgz(files, *hostile)
    assert read_tar(archive, ["package/a"]) == {"package/a": b"right"}
    assert not list(tmp_path.iterdir()) and not (tmp_path.parent / "up").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_wanted_member_that_is_no_file_is_refused(kind):
    """A symbolic link, a hard link, a device, a pipe, a folder."""
    with pytest.raises(DataError, match="package/a in the archive is a link, a device or a double"):
        read_tar(tgz({"b": b""}, member("package/a", kind, "/etc/passwd")), ["package/a"])


def test_a_member_that_comes_twice_is_refused():
    """The right one first, then an empty one."""
    with pytest.raises(DataError, match="a in the archive is a link, a device or a double"):
        read_tar(tgz({"a": b"right"}, member("a", tarfile.REGTYPE)), ["a"])


def test_a_member_of_absurd_size_is_refused_unread():
    """A header that claims 100 MB and a byte."""
    bomb = gz(member("a", tarfile.REGTYPE, size=MAX_MEMBER_BYTES + 1).tobuf())
    with pytest.raises(DataError, match="claims 100,000,001 bytes"):
        read_tar(bomb, ["a"])


def test_a_missing_member_and_a_broken_archive_are_named():
    """Truncated, a web page, empty."""
    archive = tgz({"a": os.urandom(5000)})
    with pytest.raises(DataError, match="has no b, c"):
        read_tar(archive, ["a", "b", "c"])
    for broken in (archive[:2000], b"<html>", b"", archive[:-40]):
        with pytest.raises(DataError, match="not a whole .tar.gz archive"):
            read_tar(broken, ["a", "b"])


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path):
    """One that makes a folder when unpickled, as the test shows."""
    canary = tmp_path / "canary"
    content = pickle.dumps({"data": Hostile(canary), "labels": [1]})
    with pytest.raises(DataError, match=r"the pickle asks for (posix|nt)\.mkdir"):
        read_cifar_batch(content)
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists()  # the canary sings where nobody guards


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", pickle.dumps([1]), pickle.dumps({"data": 3}), python2_pickle({b"data": np.zeros((1, 3072))})],
)
def test_what_is_no_batch_is_named(content):
    """Empty, a web page, pickles of other things."""
    with pytest.raises(DataError, match="not a CIFAR-10 batch"):
        read_cifar_batch(content)


def test_strips_hold_an_image_a_row_and_are_refused_at_another_width():
    _, arrays = tiny_cifar10()
    files = strips(arrays)
    for name, array in cifar_from_strips(files).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.flags.writeable and array.dtype == np.uint8
    narrow = random_png((5, 512, 3))
    with pytest.raises(DataError, match="RGB, 512 pixels wide, not RGB, 1024"):
        read_strip(narrow)
    with pytest.raises(DataError, match="the picture is L, 1024 pixels wide"):
        read_strip(random_png((5, 1024)))


def random_png(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
