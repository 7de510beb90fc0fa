"""One image file as uint8 pixels of a chosen size, by Pillow. Never loads torch."""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.data.specs import DataError
from utils.files import sha256

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FITS = ("crop", "pad")
LARGEST_SIZE = 1024  # hundreds of decoded images are in memory at once, of 3 MB each at this size
# Of files that people take for images, whether or not we can read them. Without an ending anything can be one.
IMAGE_ENDINGS = (
    *("", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ico", ".psd", ".pgm", ".ppm", ".tga", ".exr"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),
)


class NotAnImage(DataError):
    """By its content, a file is no image, or not the beginning of one."""


@dataclass(frozen=True)
class Target:
    """What every image becomes: a square of `size` pixels, grey with 1 of `channels`, or in colour with 3.

    `fit` says how other shapes become a square. By "crop" the shorter side gets `size` pixels and the middle is kept;
    by "pad" the longer side does, and the rest is black.
    """

    size: int
    channels: int
    fit: str = "crop"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size, self.size) if self.channels == 1 else (self.size, self.size, self.channels)

    @property
    def folder(self) -> str:
        """The name of the folder that keeps images of this kind."""
        return f"{self.size}x{self.size}x{self.channels}-{self.fit}"


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image file.

    `file` is the hash of its bytes, `content` that of its decoded pixels at full size in colour, `pixels` that of the
    array that it became. `width` and `height` are those of the upright image. `several` is whether it has more frames
    or pages than the first, which is the one that is taken.
    """

    file: str
    content: str
    pixels: str
    width: int
    height: int
    several: bool


def decode(file: BinaryIO, digest: str, target: Target) -> tuple[np.ndarray, ImageFacts]:
    """The pixels of an image, uint8 of `target.shape`, and what is known of it; `digest` is the hash of its bytes.

    The format is found by content, not by name. Raises NotAnImage or another DataError, which says what is wrong with
    the file, whatever Pillow raises.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise DataError(f"{image.width} x {image.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")
            # MPO is a JPEG with further pictures behind it, as phones write it.
            several = image.format != "MPO" and getattr(image, "is_animated", False)
            colour = in_colour(image)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise NotAnImage("not a PNG, JPEG, WebP, BMP, GIF or TIFF image, or broken at its beginning") from error
    except Exception as error:
        raise DataError(" ".join(str(error).split()) or type(error).__name__) from error
    content = hashlib.blake2b(np.asarray(colour), key=repr(colour.size).encode(), digest_size=16).hexdigest()
    pixels = np.asarray(fitted(colour.convert("L") if target.channels == 1 else colour, target))
    return pixels, ImageFacts(digest, content, sha256(pixels.tobytes()), *colour.size, several)


def in_colour(image: Image.Image) -> Image.Image:
    """The first frame of `image`, upright, as 8-bit RGB, with black behind what is transparent.

    Raises DataError for pixels without a fixed range, and whatever Pillow raises for a broken file.
    """
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # EXIF data that are broken say nothing about the orientation
        pass
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would cut all values off at 255
    if image.mode in ("I", "F"):
        raise DataError("its pixels are 32-bit numbers, which have no fixed range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")


def fitted(image: Image.Image, target: Target) -> Image.Image:
    """`image` as a square, see `Target`. Antialiased; an image that already has the size stays as it is."""
    width, height = image.size
    method = Image.Resampling.BICUBIC
    if target.fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        # reducing_gap: first by a quick whole factor to at least three times the size, which nobody can see
        return image.resize((target.size, target.size), method, box, reducing_gap=3.0)
    scale = target.size / max(width, height)
    inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), method, reducing_gap=3.0)
    padded = Image.new(image.mode, (target.size, target.size))
    padded.paste(inner, ((target.size - inner.width) // 2, (target.size - inner.height) // 2))
    return padded
