"""The data sets of one's own that nets were trained on, kept beside the nets' weights. Never loads torch.

So new images can be prepared as theirs were, though the folder has changed or is gone, and its decoded images with it.
"""

import json
from dataclasses import asdict
from pathlib import Path

from utils.contents import Contents
from utils.data.specs import ArraySpec, DatasetSpec
from utils.files import write_atomically

FILE = "data_sets.json"  # in the runs folder of a task on images


def remember_data(runs: Path, spec: DatasetSpec, contents: Contents) -> None:
    """Put what `read_folder` returned last among the data sets of the folder `runs`. Raises OSError."""
    older = remembered(runs)
    if older[-1:] != [(spec, contents)]:
        entries = [entry for entry in older if entry[0].folder != spec.folder] + [(spec, contents)]
        content = json.dumps([{"spec": asdict(spec), "contents": asdict(contents)} for spec, contents in entries])
        write_atomically(runs / FILE, content.encode())


def remembered(runs: Path) -> list[tuple[DatasetSpec, Contents]]:
    """The data sets that nets in the folder `runs` were trained on, the latest last; none if the file can't be read."""
    try:
        entries = json.loads((runs / FILE).read_bytes())
        return [(_spec(_frozen(entry["spec"])), Contents(**_frozen(entry["contents"]))) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def _spec(values: dict) -> DatasetSpec:
    arrays = {name: ArraySpec(**array) for name, array in values["arrays"].items()}
    return DatasetSpec(**values | {"arrays": arrays})


def _frozen(value):
    """The value with tuples for JSON's lists."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
