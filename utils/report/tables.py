"""The tables of a task's results, in Markdown. Never loads torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from utils.contrasts import differences, variants
from utils.experiment import Task
from utils.findings.confusion import confusion_change, largest_cells, most_confused, off_diagonal
from utils.findings.runs import accuracy_over_seeds, plateau_epochs
from utils.findings.sentences import overfitting_in_short, timed_on
from utils.findings.verdicts import FEWEST_ROUNDS
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.curves import roughness
from utils.stats.intervals import FEWEST_SEEDS, mean_interval, prediction_interval, ratio_interval, relative_spread
from utils.stats.paired import paired_comparison
from utils.words import (
    epochs_in_words,
    percent,
    plateau_in_words,
    plural,
    points,
    ratio_in_words,
    setting,
    table,
    with_bounds,
)

BUSY = 0.15  # a larger spread between the rounds of a timing pass means that the machine did something else
PAIRS_SHOWN = 5  # of confused classes


def main_table(runs: Runs, timing: TimingRecord | None) -> str:
    header = ["model", "test accuracy, final weights", "best-validation weights", "parameters", "MFLOPs per image"]
    header += ["training, s per epoch", "inference, ms per batch"] if timing else []
    rows = []
    for model, records in runs.items():
        final, best = accuracy_over_seeds(records), accuracy_over_seeds(records, "best_")
        row = [model, percent(final), percent(best), f"{records[0].parameters:,}"]
        row.append(f"{records[0].flops_per_image / 1e6:,.2f}")
        if timing:
            measured = timing.models[model]
            row.append(f"{np.median(measured['train_epoch_seconds']):.2f}")
            row.append(f"{1000 * np.median(measured['inference_batch_seconds']):.2f}")
        rows.append(row)
    return table(header, rows)


def training_table(runs: Runs) -> str:
    header = [
        "model",
        "last fit loss",
        "last validation loss",
        "lowest validation loss (epoch)",
        "accuracy plateau from",
    ]
    header.append("roughness of validation loss")
    rows = []
    for model, records in runs.items():
        lowest = [float(np.nanmin(r.curve("val_loss"))) for r in records]
        rough = mean_interval([roughness(r.curve("val_loss")) for r in records]).estimate
        rows.append(
            [
                model,
                f"{np.mean([r.curve('fit_loss')[-1] for r in records]):.4f}",
                f"{np.mean([r.curve('val_loss')[-1] for r in records]):.4f}",
                f"{np.mean(lowest):.4f} ({epochs_in_words([r.best_epoch for r in records])})",
                plateau_in_words(plateau_epochs(records), len(records)),
                "not defined" if np.isnan(rough) else f"{np.exp(rough):.3f}",
            ]
        )
    if max(map(len, runs.values())) == 1:
        return table(header, rows)
    notes = "Losses are means over seeds, epochs the lower median and the range, roughness a geometric mean."
    return f"{table(header, rows)}\n\n{notes}"


def timing_table(runs: Runs, timing: TimingRecord | None) -> str:
    if timing is None:
        return "Times have not been measured for this kind of machine yet."
    reference = timing.reference
    header = ["model", "training step, ms", f"epoch time relative to {reference}", "latency of one image, ms (p95)"]
    header.append(f"throughput at batch {timing.throughput_batch_size}, images per s")
    rows = []
    for model in runs:
        measured = timing.models[model]
        ratio = ratio_interval(measured["train_epoch_seconds"], timing.models[reference]["train_epoch_seconds"])
        throughput = timing.throughput_batch_size / np.median(measured["throughput_batch_seconds"])
        rows.append(
            [
                model,
                _milliseconds_with_quartiles(measured["train_step_seconds"]),
                "1" if model == reference else ratio_in_words(ratio),
                f"{_milliseconds(measured['latency_seconds'])} ({_milliseconds(measured['latency_p95_seconds'])})",
                f"{throughput:,.0f}",
            ]
        )
    notes = (
        f"On this machine, in this session ({timed_on(timing)}): {timing.rounds} shuffled rounds with nothing else "
        "running. Times are medians, quartiles in brackets; an epoch is the median step times its number of steps, "
        "without evaluation and loading the data into memory. Ratios of two models are geometric means over rounds, "
        "95% intervals in brackets."
    )
    if timing.rounds < FEWEST_ROUNDS:
        notes += " So few rounds of a call each show that the pass works, and no more."
    return table(header, rows) + "\n\n" + notes + _busy(timing)


def _busy(timing: TimingRecord) -> str:
    spreads = {model: relative_spread(measured["train_step_seconds"]) for model, measured in timing.models.items()}
    worst = max(spreads, key=spreads.get)
    if spreads[worst] <= BUSY:
        return ""
    return (
        f" **The machine was busy:** between rounds the training step of {worst} varied by {spreads[worst]:.0%} "
        f"(interquartile range over median; up to {BUSY:.0%} counts as quiet), so don't rely on these times."
    )


def original_table(runs: Runs, original: Mapping[str, dict]) -> str:
    if not original:
        return ""
    rows = []
    for model, records in runs.items():
        if model in original:
            figures, claim = original[model], original[model]["claims"].get("overfitting_from_epoch")
            claimed = f"from epoch {claim}" if claim else "none"
            row = [model, f"{figures['val_accuracy'][-1]:.2f}%", percent(accuracy_over_seeds(records)), claimed]
            rows.append([*row, overfitting_in_short(records)])
    header = [
        "model",
        "original: last accuracy on the test set",
        "ours: test accuracy",
        "original: overfitting",
        "ours",
    ]
    return (
        "Beside the original report, which used the test set as validation set, trained on all training images (ours "
        "holds some out) and read overfitting off by eye:\n\n" + table(header, rows)
        if rows
        else ""
    )


def confused_pairs_table(runs: Runs) -> str:
    """For each model the classes most often taken for another, counts summed over seeds as shares of the true class."""
    header = ["model", *map(str, range(1, PAIRS_SHOWN + 1))]
    rows = []
    for model, records in runs.items():
        pairs = most_confused(records, PAIRS_SHOWN)
        cells = [f"{true} → {predicted} ({share:.1%})" for true, predicted, share in pairs]
        rows.append([f"{model} ({plural(len(records), 'seed')})", *cells, *[""] * (PAIRS_SHOWN - len(cells))])
    title = "The most confused pairs, true class → predicted class, percent of the true class's test images"
    return f"{title}:\n\n{table(header, rows)}"


def confusion_change_table(runs: Runs, a: str, b: str) -> str:
    """The confusions whose shares differ most between `a` and `b`: such as what regularisation mends."""
    change, names = confusion_change(runs[a], runs[b]), runs[a][0].class_names
    changed = off_diagonal(change.mean)
    rows = []
    for row, column in largest_cells(np.abs(changed), PAIRS_SHOWN):
        interval = "covers 0 or is undefined" if change.unsure[row, column] else "excludes 0"
        if change.n < FEWEST_SEEDS:
            interval = f"none ({plural(change.n, 'seed')})"
        pair = f"{names[row]} → {names[column]}"
        rows.append([pair, f"{100 * changed[row, column]:+z.1f}", interval])
    title = f"Confusions that differ most, {b} minus {a}, points of the true class's test images"
    return f"{title}:\n\n{table(['true → predicted', 'points', 'unadjusted 95% interval'], rows)}"


def ablation_table(runs: Runs, task: Task) -> str:
    """Each variant's accuracy, and its difference from the plain model paired by seed, beside what sets it apart."""
    experiments = {experiment.name: experiment for experiment in (*task.experiments, *task.ablation)}
    reference = variants(task.contrasts)[0]
    header = ["model", f"differs from {reference} in", "test accuracy", f"minus {reference}, points (same seeds)"]
    header += ["fit loss", "gap: validation − fit loss", "overfitting"]
    rows = []
    for model, records in runs.items():
        found = differences(experiments[reference], experiments[model])
        last = {part: np.mean([r.curve(f"{part}_loss")[-1] for r in records]) for part in ("fit", "val")}
        rows.append(
            [
                f"{model} ({plural(len(records), 'seed')})",
                ", ".join(setting(field, values[1]) for field, values in found.items()) or "nothing",
                percent(accuracy_over_seeds(records)),
                "" if model == reference else _paired_difference(runs.get(reference, ()), records),
                f"{last['fit']:.3f}",
                f"{last['val'] - last['fit']:.3f}",
                overfitting_in_short(records),
            ]
        )
    return table(header, rows)


def _paired_difference(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> str:
    """Test accuracy of `b` minus `a` over the seeds of both, in points, with its 95% t-interval where there is one, and
    the number of seeds where one of them has more."""
    correct = [(of_a.test_correct, of_b.test_correct) for of_a, of_b in paired(a, b)]
    if not correct:
        return "no common seed"
    difference = paired_comparison(*zip(*correct, strict=True), b[0].test_total, m=1).difference
    n = f", {plural(len(correct), 'seed')}" if len(correct) < max(len(a), len(b)) else ""
    return with_bounds(difference, points) + n


def protocol_table(runs: Runs, original: Mapping[str, dict]) -> str:
    """The last epoch's validation accuracies beside the original report's, each one run of its own."""
    rows = []
    for model, records in runs.items():
        accuracies = [record.curve("val_accuracy")[-1] for record in records]
        ours = mean_interval(accuracies)
        if model in original:
            theirs = original[model]["val_accuracy"][-1] / 100
            difference = points(theirs - ours.estimate)
            rows.append([model, f"{theirs:.2%}", percent(ours), difference, _beyond_seeds(theirs, accuracies)])
        else:
            rows.append(
                [model, "–", percent(ours), "–", "it had no such model" if original else "no part of a quick look"]
            )
    return table(["model", "original", "ours", "original minus ours, points", "more than seeds explain?"], rows)


def _beyond_seeds(value: float, accuracies: Sequence[float]) -> str:
    """Whether one more run with accuracy `value` would surprise after those with `accuracies`."""
    expected, n = prediction_interval(accuracies), plural(len(accuracies), "seed")
    if np.isnan(expected.low):
        return f"can't be said ({n})"
    inside = expected.low <= value <= expected.high
    bounds = f"{expected.low:.2%} to {expected.high:.2%}"
    return f"{'no' if inside else '**yes**'}: one more run is expected at {bounds} ({n})"


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * np.median(seconds):.2f}"


def _milliseconds_with_quartiles(seconds: Sequence[float]) -> str:
    low, median, high = 1000 * np.percentile(seconds, [25, 50, 75])
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
