"""The larger tables of report.html, and the data that its script works on. Never loads torch."""

import base64
import math
import zlib
from collections.abc import Sequence

import numpy as np
from scipy import stats

from utils.findings.mistakes import MOST_SHOWN, Predictions, right_in_one, usual_predictions, wrong_in_all
from utils.findings.verdicts import Verdict
from utils.records.flow import on_main_path
from utils.records.record import RunRecord, Runs
from utils.stats.intervals import FEWEST_SEEDS
from utils.words import plain, points, runs_in_words, three_digits

MOST_EPOCHS = 12  # columns of the table behind a heat map
MOST_PACKED = 1_500_000  # letters of the predictions
NOT_TOLD = ("commit", "modified", "source_hash", "model_hash")  # of an environment: they differ from run to run


def curve_tables(runs: Runs) -> dict[str, list[list[str]]]:
    """{"loss" and "accuracy": for each epoch each model's value on validation images and, after it, on training images}

    A mean over seeds, followed by the lowest and the highest; "" after the last epoch of a run that stopped early.
    """
    longest = max((len(record.history) for records in runs.values() for record in records), default=0)
    return {
        quantity: [
            [
                _with_range(
                    [r.history[epoch][f"{part}_{quantity}"] for r in records if epoch < len(r.history)], quantity
                )
                for part in ("val", "fit")
                for records in runs.values()
            ]
            for epoch in range(longest)
        ]
        for quantity in ("loss", "accuracy")
    }


def _with_range(values: Sequence[float], quantity: str) -> str:
    form = "{:.4f}".format if quantity == "loss" else "{:.2%}".format
    if not values or None in values:
        return "not finite" if values else ""
    mean = form(float(np.mean(values)))
    return f"{mean} ({form(min(values))} to {form(max(values))})" if len(values) > 1 else mean


def flow_table(records: Sequence[RunRecord]) -> tuple[list[int], dict[str, list[str]]]:
    """Some epochs, and {layer: its gradient norm in each of them}: medians over steps, geometric means over seeds."""
    longest = max(len(record.history) for record in records)
    first, *others = (record for record in records if len(record.history) == longest)
    names = first.arrays["flow_weight_names"]
    alike = [first, *(record for record in others if np.array_equal(record.arrays["flow_weight_names"], names))]
    epochs = np.unique(np.linspace(1, longest, min(longest, MOST_EPOCHS)).round().astype(int))
    norms = np.array([record.arrays["flow_epoch_norms"][epochs - 1] for record in alike], dtype=float)
    with np.errstate(divide="ignore"):
        means = np.exp(np.log(norms).mean(axis=0))
    rows = {name: [three_digits(mean) if mean else "0" for mean in means[:, i]] for i, name in enumerate(names)}
    return epochs.tolist(), {str(n): rows[n] for n in names[on_main_path(names)]}


def differences(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """What the forest plot shows: for each comparison the difference, its bounds if defined, and each seed's value."""
    rows = []
    for verdict in verdicts:
        difference = verdict.comparison.difference
        bounds = [points(bound) if math.isfinite(bound) else "–" for bound in (difference.low, difference.high)]
        seeds = ", ".join(f"{seed}: {points(v)}" for seed, v in zip(verdict.seeds, verdict.differences, strict=True))
        rows.append([f"{verdict.b} − {verdict.a}", points(difference.estimate), *bounds, seeds])
    return rows


def mistakes(made: Predictions, names: Sequence[str]) -> list[tuple[str, int, list[dict]]]:
    """(title, how many there are, the first of them) for the images that all models, or all but one, get wrong."""

    def told(image: int) -> dict:
        label, taken = made.labels[image], dict.fromkeys(usual_predictions(made, image))
        return {"image": image, "true": names[label], "taken": [names[other] for other in taken if other != label]}

    lists = {"Wrong in all models": wrong_in_all(made)} if len(made.of_models) > 1 else {}
    lists |= {f"Right in {model} alone": images for model, images in right_in_one(made).items()}
    return [(title, len(images), [told(image) for image in images[:MOST_SHOWN]]) for title, images in lists.items()]


def matrix_data(runs: Runs, made: Predictions) -> dict:
    """What the matrices are made of: `packed` is a row of labels, and for each run a row of predictions minus labels.

    Rows have a byte for each test image, modulo 256, and are deflated: what is right is a zero. If that takes too much
    of the page, it is of as many seeds of each model, the first ones, as fit; then `kept` says how many.
    """
    total = max(map(len, runs.values()))
    most = min(total, max(1, 2 * MOST_PACKED // len(_packed(made, 1))))  # to deflate thousands would take a minute
    while len(packed := _packed(made, most)) > MOST_PACKED and most > 1:
        most //= 2
    return {
        "classes": next(iter(runs.values()))[0].class_names,
        "models": [{"name": model, "seeds": [r.seed for r in records[:most]]} for model, records in runs.items()],
        "total": len(made.labels),
        "packed": packed,
        "kept": most if most < total else None,
        "t": {n: round(float(stats.t.ppf(0.975, n - 1)), 6) for n in range(FEWEST_SEEDS, most + 1)},
        "most": MOST_SHOWN,
    }


def _packed(made: Predictions, most: int) -> str:
    labels = made.labels.astype(np.uint8)
    rows = [rows[:most].astype(np.uint8) - labels for rows in made.of_models.values()]
    return base64.b64encode(zlib.compress(np.concatenate([labels[None], *rows]).tobytes(), 9)).decode()


def recipes(runs: Runs) -> dict[str, list[str]]:
    """{setting: its value for each model}, of the recipes and of the models' own options."""
    firsts = [records[0] for records in runs.values()]
    both = [{**{f"model: {k}": v for k, v in r.model_options.items()}, **r.config} for r in firsts]
    names = dict.fromkeys(name for values in both for name in values)
    return {name.replace("_", " "): [plain(v[name]) if name in v else "–" for v in both] for name in names}


def environments(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table: which runs were trained on which machine, with which versions."""
    found: dict[tuple, dict[str, list[int]]] = {}
    records = [record for of_model in runs.values() for record in of_model]
    names = [n for n in dict.fromkeys(n for r in records for n in r.environment) if n not in NOT_TOLD]
    for record in records:
        values = tuple(str(record.environment.get(name) or "–") for name in names)
        found.setdefault(values, {}).setdefault(record.model, []).append(record.seed)
    rows = [[runs_in_words(seeds_of), *values] for values, seeds_of in found.items()]
    return ["runs", *(name.replace("_", " ") for name in names)], rows
