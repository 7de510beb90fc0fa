"""Folders of images, made for tests: small, and with every kind of file that people have."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, size: tuple[int, int] = (12, 10), channels: int = 3) -> np.ndarray:
    """A picture that differs for each number, uint8 (height, width[, 3]), smooth enough for JPEG."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (3, 4, 3), np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image if channels == 3 else image.convert("L"))


def write(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def png(image: np.ndarray | Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def class_folders(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """`counts[name]` different pictures for each class, numbered from `first` on."""
    number = first
    for name, count in counts.items():
        for k in range(count):
            write(root / name / f"{k}.png", picture(number))
            number += 1
    return root


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """{path: bytes and time of change} of every file and folder."""
    paths = sorted(root.rglob("*"))
    return {str(p): (p.read_bytes() if p.is_file() else b"", p.stat().st_mtime_ns) for p in paths}
