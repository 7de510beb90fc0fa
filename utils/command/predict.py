"""`--predict`: the classes of new images, by the models that were trained here."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.checkout import shown
from utils.command.outputs import say
from utils.command.plan import Plan
from utils.command.trained import Trained, in_use, load_model, runs_to_predict_by, weights_of
from utils.data.decode import ImageFacts
from utils.data.folder import is_another_file
from utils.data.layout import files_in, shown_name
from utils.data.specs import DataError
from utils.data.store import decoded
from utils.files import write_atomically
from utils.streams import say as answer
from utils.streams import warn
from utils.training.predict import EVAL_BATCH_SIZE
from utils.words import plural

TABLE = "predictions.csv"  # in the runs folder of the task
COLUMNS = ("image", "model", "seeds", "weights", "class", "probability", "lowest", "highest")


def predict_images(plan: Plan) -> int:
    """Print a line for each image and model, and write the table if it is asked for; returns the exit code.

    What can't be read is named, and the others go on; the code is 1 then. Files in a folder that are no images by their
    names either are only counted, as for training. Raises NoWeights, WeightsError and OSError.
    """
    runs, why = runs_to_predict_by(plan)
    models = [load_model(plan, name, records, weights_of(plan, name, records)) for name, records in runs.items()]
    for model in models:
        data = f"trained on {model.records[0].data_name} ({model.records[0].kind})"
        seeds = f"{plural(len(model.nets), 'seed')}, {in_use(plan, model)}"
        say(plan, f"{model.name}, {seeds}, {data}: {why}.")
    paths, faults = image_files(plan.use.paths)
    for fault in faults:
        warn(fault)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    others = 0
    for path, result in predictions(models, paths):
        if isinstance(result, DataError):
            if path not in plan.use.paths and is_another_file(path, result):
                others += 1
                continue
            warn(f"{shown_name(str(path))}: {result}")
            faults.append(str(path))
            continue
        facts, of_models = result
        for model, probabilities in zip(models, of_models, strict=True):
            by = f", by {model.name}" if len(models) > 1 else ""
            first = " (the first of its frames)" if facts.several else ""
            answer(f"{shown_name(str(path))}{by}: {in_words(model.class_names, probabilities)}{first}")
            if plan.csv:
                writer.writerows((path, model.name, *row) for row in rows_of(model, probabilities))
    if plan.csv:
        write_atomically(plan.runs / TABLE, table.getvalue().encode(errors="backslashreplace"))
        say(plan, f"All probabilities: {shown(plan.runs / TABLE)}")
    if others:
        say(plan, f"Left out, since they are no images: {plural(others, 'other file')} in the folders")
    if others == len(paths) and not faults:
        faults.append("no images")
        warn("there are no images in the folders")
    return 1 if faults else 0


def image_files(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files that are given or lie in given folders, and what is wrong with the others. Hidden ones are nothing."""
    paths: list[Path] = []
    faults: list[str] = []
    for path in given:
        name = shown_name(str(path))
        if not path.is_dir():
            there = path.exists() or path.is_symlink()
            (paths if there else faults).append(path if there else f"{name}: there is no such file or folder")
            continue
        unreadable: list[DataError] = []
        inside = list(files_in(path, faults=unreadable))
        faults += map(str, unreadable)
        if not (inside or unreadable):
            faults.append(f"{name}: an empty folder")
        paths += inside
    return paths, faults


def predictions(
    models: Sequence[Trained], paths: Sequence[Path]
) -> Iterator[tuple[Path, DataError | tuple[ImageFacts, list[np.ndarray]]]]:
    """For each path, in their order: what is known of the image, and each model's probabilities (seeds, classes).

    Or what is wrong with the file. Only a batch of images is in memory at a time.
    """
    results = zip(paths, decoded(paths, models[0].target), strict=True)
    while batch := list(islice(results, EVAL_BATCH_SIZE)):
        pixels = [result[0] for _, result in batch if not isinstance(result, DataError)]
        # (seeds, images, classes) of each model; the images come first where they are handed out.
        of_models = [iter(model.probabilities_of(np.stack(pixels)).swapaxes(0, 1)) for model in models if pixels]
        with tqdm.external_write_mode():  # lines go above the bar
            for path, result in batch:
                if isinstance(result, DataError):
                    yield path, result
                else:
                    yield path, (result[1], [next(images) for images in of_models])


def in_words(class_names: Sequence[str], probabilities: np.ndarray) -> str:
    """For example "cat 93% (88 to 96% over 6 seeds), then dog 5%", from probabilities of shape (seeds, classes)."""
    mean = probabilities.mean(0)
    first, second = np.argsort(-mean, kind="stable")[:2]
    lowest, highest = (percent(bound(probabilities[:, first])) for bound in (np.min, np.max))
    seeds = len(probabilities)
    spread = f"{lowest} to {highest}% over" if lowest != highest else f"{lowest}% with each of"
    over = f" ({spread} {seeds} seeds)" if seeds > 1 else ""
    return f"{class_names[first]} {percent(mean[first])}%{over}, then {class_names[second]} {percent(mean[second])}%"


def percent(probability: float) -> str:
    """Whole percent without the sign; never 0 or 100, which no softmax says."""
    return "<1" if probability < 0.005 else ">99" if probability > 0.995 else f"{100 * probability:.0f}"


def rows_of(model: Trained, probabilities: np.ndarray) -> Iterator[tuple]:
    """The table's rows of an image and a model, the likeliest class first; one seed has no lowest and no highest."""
    mean, seeds = probabilities.mean(0), len(probabilities)
    lowest, highest = probabilities.min(0), probabilities.max(0)
    for k in np.argsort(-mean, kind="stable"):
        bounds = (f"{lowest[k]:.6f}", f"{highest[k]:.6f}") if seeds > 1 else ("", "")
        yield seeds, model.weights, model.class_names[k], f"{mean[k]:.6f}", *bounds
