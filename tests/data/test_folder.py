"""Folders of images as data sets: decoded once, kept by contents, described; the folder itself is never changed."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest
from made_folders import class_folders, picture, png, snapshot, write
from PIL import Image

from utils.data import store
from utils.data.decode import Target, decode
from utils.data.folder import UnusableImages, few_of_each_class, read_folder
from utils.data.images import load_splits
from utils.data.layout import PARTS
from utils.data.specs import DataError, data_sha256

TARGET = Target(10, 3)


@pytest.fixture
def decodings(monkeypatch) -> list[str]:
    """The names of the files that are decoded."""
    names = []

    def counted(file, digest, target):
        names.append(os.path.basename(file.name))
        return decode(file, digest, target)

    monkeypatch.setattr(store, "decode", counted)
    return names


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", {"cat": 9, "dog": 7, "猫 | x": 4})


def read(root, target=TARGET, **options):
    return read_folder(root, root.parent / "data", target, **options)


def digest(root, target=TARGET) -> str:
    return data_sha256(read(root, target)[0], {})


def rows(spec, root, part) -> set[tuple[int, bytes]]:
    """{(label, pixels)} of a part, as training gets them."""
    splits = load_splits(spec, root.parent / "data")
    images = getattr(splits, part)
    return {(int(k), image.numpy().tobytes()) for k, image in zip(images.labels, images.images, strict=True)}


def test_training_gets_every_image_with_its_label_once(photos):
    spec, contents = read(photos)
    assert spec.class_names == ("cat", "dog", "猫 | x") and spec.image_shape == (3, 10, 10) and spec.pinned
    found = [rows(spec, photos, part) for part in PARTS]
    expected = {
        (label, decode((path).open("rb"), "", TARGET)[0].tobytes())
        for label, name in enumerate(spec.class_names)
        for path in (photos / name).iterdir()
    }
    assert set().union(*found) == expected and sum(map(len, found)) == len(expected) == 20
    assert contents.images == {
        part: tuple(np.bincount([k for k, _ in f])) for part, f in zip(PARTS, found, strict=True)
    }
    assert contents.images["test"] == (1, 1, 1) and contents.given == () and contents.name == "photos"


def test_the_normalisation_is_that_of_the_training_pixels(photos):
    for target in (TARGET, Target(10, 1)):
        spec, _ = read(photos, target)
        pixels = load_splits(spec, photos.parent / "data").train.images.numpy() / 255
        np.testing.assert_allclose(spec.mean, pixels.mean((0, 1, 2)), atol=5e-5)
        np.testing.assert_allclose(spec.std, pixels.std((0, 1, 2)), atol=5e-5)


def test_a_channel_without_any_contrast_can_be_normalised(tmp_path):
    for label, name in enumerate("ab"):
        for k in range(3):
            write(tmp_path / "photos" / name / f"{k}.png", np.full((10, 10, 3), (100 + 10 * k + label, 0, 7), np.uint8))
    spec, _ = read(tmp_path / "photos")
    images, _ = next(load_splits(spec, tmp_path / "data").train.batches(2))
    assert images.isfinite().all() and images[:, 1].abs().max() < 1e-6


def test_a_second_run_decodes_nothing_and_finds_the_same_data(photos, decodings):
    before = snapshot(photos)
    spec, contents = read(photos)
    assert len(decodings) == 20
    assert read(photos) == (spec, contents) and len(decodings) == 20
    assert snapshot(photos) == before
    kept = [path.name for path in (photos.parent / "data" / "images" / "10x10x3-crop").iterdir()]
    assert sorted(name for name in kept if not name.startswith(".")) == [spec.folder.rpartition("/")[2]]


def test_paths_dates_and_formats_change_nothing(photos, decodings):
    expected, decoded = digest(photos), len(decodings)
    for k, path in enumerate(sorted(photos.rglob("*.png"))):
        moved = path.parent / f"sub{k % 2}" / f"{99 - k}.jpeg"  # a PNG all the same
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)
        os.utime(moved, (time.time() - 1000 * k,) * 2)
    assert digest(photos) == expected and len(decodings) == decoded
    for path in photos.rglob("*.jpeg"):
        Image.open(path).save(path, "BMP")
    assert digest(photos) == expected and len(decodings) == 2 * decoded
    photos.rename(photos.with_name("others"))
    assert digest(photos.with_name("others")) == expected


def test_one_changed_file_is_decoded_alone_and_makes_another_data_set(photos, decodings):
    first, _ = read(photos)
    stamp = (photos / "dog/3.png").stat()
    write(photos / "dog/3.png", picture(99))
    os.utime(photos / "dog/3.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    decodings.clear()
    second, _ = read(photos)
    assert decodings == ["3.png"] and data_sha256(first, {}) != data_sha256(second, {})
    changed = [rows(first, photos, part) ^ rows(second, photos, part) for part in PARTS]
    assert sum(map(len, changed)) <= 6  # one image out, one in, and what they push over the borders of the parts
    write(photos / "dog/3.png", picture(12))  # as it was
    decodings.clear()
    assert read(photos)[0] == first and decodings == []


def test_class_names_size_channels_and_fit_make_another_data_set(photos):
    found = {digest(photos, target) for target in (TARGET, Target(10, 1), Target(9, 3), Target(10, 3, "pad"))}
    (photos / "dog").rename(photos / "hound")
    assert len(found | {digest(photos)}) == 5


def test_the_split_is_the_same_at_every_size_and_in_grey(photos):
    def parts(target):
        read(photos, target)
        (index,) = (photos.parent / "data" / "images" / target.folder).glob("*/index.json")
        return {name: {line[1] for line in lines} for name, lines in json.loads(index.read_text()).items()}

    assert parts(TARGET) == parts(Target(4, 1)) == parts(Target(30, 3, "pad"))


@pytest.fixture
def mixed(tmp_path):
    """Three classes of different sizes, grey and colour, with each kind of file that people have."""
    root = class_folders(tmp_path / "mixed", {"a": 6, "b": 8, "c": 5})
    write(root / "a/grey.png", picture(50, (30, 20), channels=1))
    write(root / "b/deep.png", Image.fromarray(np.arange(20000, 20600, dtype=np.uint16).reshape(20, 30)))
    write(root / "b/print.tif", Image.fromarray(picture(51)).convert("CMYK"))
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root / "c/turned.jpg", picture(52, (20, 40)), exif=exif)
    frames = [Image.fromarray(picture(k)) for k in (53, 54)]
    write(root / "c/moving.gif", frames[0], save_all=True, append_images=frames[1:])
    (root / "a/broken.png").write_bytes(png(picture(55, (60, 60)))[:900])
    (root / "b/empty.jpg").write_bytes(b"")
    (root / "c/notes.png").write_text("no image")
    (root / "c/lost.png").symlink_to(root / "gone.png")
    os.mkfifo(root / "c/pipe")
    return root


BAD = ["a/broken.png", "b/empty.jpg", "c/lost.png", "c/notes.png", "c/pipe"]


def test_all_files_that_cannot_be_used_are_named_before_anything_else(mixed, decodings):
    """Cut off, empty, a text, a link to nothing, a pipe: the run stops, and what it decoded is kept."""
    before = snapshot(mixed.parent / "mixed" / "a")
    with pytest.raises(UnusableImages) as found:
        read(mixed)
    lines = str(found.value).splitlines()
    assert lines[0] == f"5 of 29 files in {mixed} can't be used:" and "--skip-bad" in lines[-1]
    assert [line.split(":")[0].removeprefix("  - ") for line in lines[1:-1]] == BAD
    whys = [line.partition(": ")[2] for line in lines[1:-1]]
    assert whys[1:3] == ["an empty file", "a link to nothing"] and whys[4] == "not a regular file"
    decodings.clear()
    spec, contents = read(mixed, skip_bad=True)
    assert set(decodings) == {"broken.png", "notes.png"}  # the others are known
    assert list(contents.skipped) == BAD and contents.skipped["b/empty.jpg"] == "an empty file"
    assert sum(contents.of_each_class) == 24 and contents.several == ("c/moving.gif",)
    assert (contents.smallest, contents.largest, contents.sizes) == ((12, 10), (40, 20), 3)
    assert snapshot(mixed.parent / "mixed" / "a") == before
    assert load_splits(spec, mixed.parent / "data").image_shape == (3, 10, 10)


def test_other_files_beside_the_images_count_as_nothing_and_are_counted(photos):
    """Captions, sounds, a table, an empty one; but a JPEG called .txt is an image."""
    before = read(photos)[0]
    for name, content in {"1.txt": b"a cat", "2.TXT": b"", "meow.ogg": b"OggS" * 99, "boxes.csv": b"1,2\n"}.items():
        (photos / "cat" / name).write_bytes(content)
    spec, contents = read(photos)
    assert spec == before and contents.others == {".txt": 2, ".ogg": 1, ".csv": 1} and not contents.skipped
    write(photos / "dog" / "picture.jpg", picture(90)).rename(photos / "dog" / "picture.txt")
    (photos / "dog" / "cut.dat").write_bytes(png(picture(91, (60, 60)))[:900])
    spec, contents = read(photos, skip_bad=True)
    assert spec != before and list(contents.skipped) == ["dog/cut.dat"] and contents.others[".txt"] == 2


def test_a_file_name_of_any_bytes_can_be_shown(photos):
    """A name with bytes that are no letters, and one with a line break."""
    try:
        (photos / "cat" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes text only")
    (photos / "cat" / "a\nb.png").write_bytes(b"")
    with pytest.raises(UnusableImages) as found:
        read(photos)
    assert str(found.value).encode().splitlines()[1:3] == [
        b"  - cat/a\\nb.png: an empty file",
        b"  - cat/\\udcff.png: an empty file",
    ]


def test_duplicates_are_named(tmp_path):
    root = tmp_path / "photos"
    for number, (part, size) in enumerate((("train", 6), ("valid", 3), ("test", 3))):
        class_folders(root / part, {"a": size, "b": size}, first=100 * number)
    write(root / "test/b/copy.bmp", picture(0))  # train/a/0.png
    write(root / "train/b/again.png", picture(7))  # train/b/1.png
    write(root / "train/b/other.tif", picture(2))  # train/a/2.png
    _, contents = read(root)
    assert contents.given == PARTS and contents.images == {"train": (6, 8), "val": (3, 3), "test": (3, 4)}
    assert contents.equal == (("train/b/1.png", "train/b/again.png"),)
    assert contents.across == (("test/b/copy.bmp", "train/a/0.png"),)
    assert contents.contradictory == (
        ("test/b/copy.bmp", "train/a/0.png"),
        ("train/a/2.png", "train/b/other.tif"),
    )


def test_a_hundred_to_one(tmp_path):
    spec, contents = read(class_folders(tmp_path / "photos", {"many": 300, "few": 3}), Target(4, 1))
    assert contents.images == {"train": (1, 210), "val": (1, 45), "test": (1, 45)}
    assert contents.imbalance == 100 and contents.accuracy_to_beat == 45 / 46 and contents.largest_class == 1
    splits = load_splits(spec, tmp_path / "data")
    assert len(splits.fit) == len(splits.train) == 211


def test_a_hundred_and_twenty_classes(tmp_path):
    names = {f"class {k}": 3 for k in range(120)}
    spec, contents = read(class_folders(tmp_path / "photos", names), Target(4, 1))
    assert contents.images["val"] == (1,) * 120 and spec.class_names == tuple(sorted(names))


def test_two_classes_that_differ_in_case(tmp_path):
    root = class_folders(tmp_path / "photos", {"Cat": 3, "cat": 4, ".cat": 2})
    if len([*root.iterdir()]) < 3:
        pytest.skip("this file system ignores case")
    assert read(root)[1].of_each_class == (3, 4)


def test_too_few_images_are_counted_without_the_unusable_ones(photos):
    """Of four images, two are broken: one more is needed."""
    for k in range(2):
        (photos / "猫 | x" / f"{k}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"too few different images: 猫 \| x has 2 of at least 3"):
        read(photos, skip_bad=True)


def test_an_interrupted_run_keeps_what_it_decoded(photos, decodings, monkeypatch):
    """Ctrl-C after eight images."""
    write_row = store.RowWriter.write

    def interrupted(writer, pixels):
        if writer.rows == 8:
            raise KeyboardInterrupt
        write_row(writer, pixels)

    monkeypatch.setattr(store.RowWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(photos)
    monkeypatch.setattr(store.RowWriter, "write", write_row)
    decodings.clear()
    read(photos)
    assert len(decodings) == 12


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "no spec", "half a spec"])
def test_a_damaged_copy_is_made_again(photos, damage, capsys):
    """An array cut off, with a bit flipped, deleted; or what describes it deleted or cut off."""
    spec, _ = read(photos)
    kept = photos.parent / "data" / spec.folder
    path = kept / ("set.json" if damage.endswith("spec") else "train_images.npy")
    content = path.read_bytes()
    if damage in ("cut", "half a spec"):
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    if not damage.endswith("spec"):
        with pytest.raises(DataError, match="damaged or gone|has the SHA-256"):
            load_splits(spec, photos.parent / "data")
    assert read(photos)[0] == spec
    assert load_splits(spec, photos.parent / "data").sha256 == data_sha256(spec, {})
    assert "is made again" in capsys.readouterr().err


def test_a_full_disk_is_an_error_and_leaves_no_data_set(photos, monkeypatch):
    """No space left for the arrays: OSError, and the next run makes them."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(store.RowWriter, "write", full)
        read(photos)
    assert sum(read(photos)[1].of_each_class) == 20


def test_a_data_folder_that_cannot_be_written_is_an_error(photos):
    """A file in its place."""
    (photos.parent / "data").write_text("")
    with pytest.raises(OSError, match="data"):
        read(photos)


def test_arrays_are_memory_maps_that_nobody_copies(photos):
    spec, _ = read(photos)
    arrays = store.read_set(spec, photos.parent / "data")
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in arrays.values())
    splits = load_splits(spec, photos.parent / "data")
    assert splits.fit.images.data_ptr() == splits.train.images.data_ptr()
    maps = open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else "train_images.npy"
    assert "train_images.npy" in maps


def test_a_few_images_of_each_class(photos):
    spec, _ = read(photos)
    arrays = store.read_set(spec, photos.parent / "data")
    found = few_of_each_class(arrays["train_images"], arrays["train_labels"], 3, 4)
    assert [len(images) for images in found] == [4, 4, 2] and found[2].shape == (2, 10, 10, 3)
    known = {(label, image.tobytes()) for label, images in enumerate(found) for image in images}
    assert known <= rows(spec, photos, "train")


def test_the_same_spec_in_another_place_is_not_the_same_data(photos):
    spec, _ = read(photos)
    with pytest.raises(DataError, match="damaged or gone"):
        load_splits(dataclasses.replace(spec, folder="images/elsewhere"), photos.parent / "data")
