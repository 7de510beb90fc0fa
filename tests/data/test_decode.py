"""Image files of every kind as pixels of one size; broken ones are named."""

import io
import struct
import zlib

import numpy as np
import pytest
from made_folders import picture, png
from PIL import Image, ImageOps

from utils.data.decode import Target, decode
from utils.data.specs import DataError

COLOUR, GREY = Target(8, 3), Target(8, 1)
EXACT = Target(12, 3)
SQUARE = picture(0, (12, 12))


def decoded(content: bytes, target: Target = EXACT):
    return decode(io.BytesIO(content), "digest", target)


def saved(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_an_image_of_the_size_stays_as_it_is_whatever_its_format(kind):
    few = np.where(SQUARE > 128, 255, 0).astype(np.uint8)  # eight colours, which a GIF keeps
    pixels, facts = decoded(saved(few, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(pixels, few, strict=True)
    assert (facts.width, facts.height, facts.several, facts.file) == (12, 12, False, "digest")
    assert facts.content == decoded(png(few))[1].content  # the same pixels are the same content


def test_a_jpeg_is_decoded_as_pillow_does():
    content = saved(SQUARE, "JPEG", quality=90)
    np.testing.assert_array_equal(decoded(content)[0], np.asarray(Image.open(io.BytesIO(content))))


def test_grey_is_the_luminance():
    pixels, _ = decoded(png(SQUARE), Target(12, 1))
    luminance = SQUARE @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    assert pixels.shape == (12, 12) and np.abs(pixels - luminance).max() <= 1
    grey = picture(1, (12, 12), channels=1)
    np.testing.assert_array_equal(decoded(png(grey), Target(12, 1))[0], grey)
    np.testing.assert_array_equal(decoded(png(grey))[0], np.repeat(grey[..., None], 3, axis=2))
    assert decoded(png(grey))[1].content == decoded(png(grey), GREY)[1].content  # whatever it is made into


def test_sixteen_bits_keep_their_range():
    """Pillow's own conversion would cut all values off at 255."""
    deep = (np.arange(144, dtype=np.uint16) * 450).reshape(12, 12)
    for kind in ("PNG", "TIFF"):
        pixels, _ = decoded(saved(Image.fromarray(deep), kind), Target(12, 1))
        np.testing.assert_array_equal(pixels, (deep // 256).astype(np.uint8))


def test_transparent_pixels_are_black():
    alpha = np.full((12, 12), 255, np.uint8)
    alpha[:4], alpha[4] = 0, 51
    pixels, _ = decoded(png(np.dstack([SQUARE, alpha])))
    assert (pixels[:4] == 0).all() and (pixels[5:] == SQUARE[5:]).all()
    np.testing.assert_allclose(pixels[4], SQUARE[4] * 0.2, atol=1)


def test_palettes_with_and_without_a_transparent_colour():
    image = Image.fromarray((np.indices((12, 12)).sum(0) % 3).astype(np.uint8), "L").convert("P")
    image.putpalette([200, 10, 20, 30, 210, 40, 50, 60, 220])
    expected = np.array([[200, 10, 20], [30, 210, 40], [50, 60, 220]], np.uint8)[np.asarray(image)]
    np.testing.assert_array_equal(decoded(png(image))[0], expected)
    expected[np.asarray(image) == 1] = 0
    np.testing.assert_array_equal(decoded(png(image, transparency=1))[0], expected)


def test_cmyk_is_converted():
    content = saved(Image.fromarray(SQUARE).convert("CMYK"), "TIFF")
    np.testing.assert_allclose(decoded(content)[0].astype(int), SQUARE, atol=2)


def test_bilevel_and_grey_with_alpha():
    bits = Image.fromarray(SQUARE).convert("1")
    np.testing.assert_array_equal(decoded(png(bits), Target(12, 1))[0], np.where(np.asarray(bits), 255, 0))
    pair = np.dstack([picture(2, (12, 12), 1), np.zeros((12, 12), np.uint8)])
    assert not decoded(png(Image.fromarray(pair, "LA")))[0].any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_s_orientation_is_applied(orientation):
    """Against Pillow's own reading, and one orientation by hand: 6 means that the stored top is the right side."""
    wide = picture(3, (12, 6))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = png(wide, exif=exif.tobytes())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    if orientation == 6:
        np.testing.assert_array_equal(expected, np.rot90(wide, -1))
    pixels, facts = decoded(content, Target(12, 3, "pad"))
    height, width = expected.shape[:2]
    assert (facts.width, facts.height) == (width, height)
    top, left = (12 - height) // 2, (12 - width) // 2
    np.testing.assert_array_equal(pixels[top : top + height, left : left + width], expected)


def test_broken_exif_data_say_nothing():
    content = saved(SQUARE, "JPEG", quality=95, exif=b"Exif\0\0not a TIFF header at all")
    np.testing.assert_array_equal(decoded(content)[0], decoded(saved(SQUARE, "JPEG", quality=95))[0])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts_and_it_is_said(kind):
    frames = [Image.fromarray(np.full((12, 12, 3), value, np.uint8)) for value in (255, 0, 255)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    pixels, facts = decoded(content)
    assert facts.several and (pixels == 255).all()


def test_a_phone_s_jpeg_with_a_second_picture_is_no_animation():
    frames = [Image.fromarray(picture(k, (12, 12))) for k in range(2)]
    content = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    pixels, facts = decoded(content)
    assert not facts.several
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_crop_keeps_the_middle_and_pad_the_whole():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    cropped, _ = decoded(png(wide), Target(10, 3))
    assert (cropped == (0, 255, 0)).all()
    padded, _ = decoded(png(wide), Target(30, 3, "pad"))
    np.testing.assert_array_equal(padded[10:20], wide)
    assert not padded[:10].any() and not padded[20:].any()
    tall, _ = decoded(png(wide.swapaxes(0, 1)), Target(30, 3, "pad"))
    np.testing.assert_array_equal(tall, padded.swapaxes(0, 1))


def test_shrinking_is_antialiased():
    """A checkerboard of single pixels becomes an even grey, not the pixels that happen to be hit."""
    board = np.indices((96, 96)).sum(0) % 2 * 255
    pixels, _ = decoded(png(board.astype(np.uint8)), Target(8, 1))
    assert np.abs(pixels.astype(int) - 127.5).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500), (3, 7)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_any_shape_becomes_a_square(size, fit):
    for channels, shape in ((1, (8, 8)), (3, (8, 8, 3))):
        pixels, facts = decoded(png(picture(4, size)), Target(8, channels, fit))
        assert pixels.shape == shape and pixels.dtype == np.uint8 and (facts.width, facts.height) == size


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb() -> bytes:
    """A PNG of a few bytes that claims 30,000 x 30,000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def flipped(content: bytes, where: int) -> bytes:
    return content[:where] + bytes([content[where] ^ 0xFF]) + content[where + 1 :]


WHOLE = png(picture(5, (40, 40)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "not a PNG, JPEG, WebP, BMP, GIF or TIFF image"),
        (WHOLE[:20], "(?i)truncated"),
        (WHOLE[: len(WHOLE) // 2], "(?i)truncated"),
        (flipped(png(picture(5, (40, 40)), compress_level=0), 2000), "broken data stream"),
        (saved(picture(5, (40, 40)), "JPEG")[:400], "(?i)truncated"),
        (saved(picture(5, (40, 40)), "BMP")[:400], "(?i)truncated"),
        (saved(picture(5, (40, 40)), "GIF")[:1200], "(?i)truncated|decoder"),
        (saved(picture(5, (40, 40)), "WEBP")[:100], "."),
        (saved(picture(5, (40, 40)), "TIFF")[:-900], "."),
        (bomb(), "pixels"),
        (saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "32-bit numbers"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
    ],
)
def test_what_is_no_whole_image_is_named(content, message):
    """Text, a page description, cut-off and altered files, a bomb of 900 million pixels, floating-point pixels."""
    with pytest.raises(DataError, match=message):
        decoded(content)


def test_an_image_with_more_pixels_than_pillow_takes_for_safe_is_refused(monkeypatch):
    """Between this limit and twice of it Pillow itself only warns."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1599)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match="40 x 40 pixels, more than 1,599"),
    ):
        decoded(WHOLE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1600)
    decoded(WHOLE)
