"""What a command uses that was trained before: `--predict` and `--export`, which train nothing."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from utils.checkout import shown
from utils.contents import Contents
from utils.data.remembered import remembered
from utils.data.specs import DatasetSpec
from utils.streams import warn

# The averaged ones have two names: see `RunRecord.averaged_in_words`.
WEIGHTS_IN_WORDS = {"last": "last weights", "best": "weights of the lowest validation loss"}


class NoWeights(ValueError):
    """Nothing that was asked for has been trained here; the message says what and where."""


@dataclass(frozen=True)
class Use:
    """What finished weights are used for: to predict the images at `paths`, or, without any, to be exported.

    `named` is whether --models names the models, and `kind` the kind of runs, "" for the one that the pages show.
    `weights` is one of WEIGHT_FILES, or "" for the averaged weights of models of which every run here has them, and the
    last weights of others.
    """

    paths: tuple[Path, ...]
    named: bool
    kind: str
    weights: str = ""


def use_of_weights(options: argparse.Namespace) -> Use | None:
    """What the options use weights for; None if they train or draw."""
    if not (options.predict or options.export):
        return None
    return Use(tuple(options.predict or ()), bool(options.models), options.kind or "", options.weights or "")


def trained_on(
    runs: Path, name: str, size: int | None, fit: str | None, class_names: tuple[str, ...] = ()
) -> tuple[DatasetSpec, Contents]:
    """What the folder of images `name` held when nets were last trained on it, in the folder `runs`.

    The images themselves are not read. Only a data set of that `size` and `fit` counts, if these are given. One of the
    `class_names` that the folder has now goes before others, since another folder may have its name; warns if there is
    none. Raises NoWeights.
    """
    found = remembered(runs)
    fitting = [entry for entry in found if size in (None, entry[1].size) and fit in (None, entry[1].fit)]
    if fitting:
        spec, contents = max(fitting[::-1], key=lambda entry: entry[1].class_names == class_names)
        if class_names and contents.class_names != class_names:
            warn(f"warning: {name} has other classes now, or is another folder than the one that was trained on")
        return spec, contents
    others = ", ".join(f"--image-size {contents.size} --fit {contents.fit}" for _, contents in found)
    raise NoWeights(f"{shown(runs)} has no weights from {name}" + (f" but by {others}" if found else ""))
