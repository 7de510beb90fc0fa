"""The tables of a task's results, in Markdown. Never loads torch."""

from collections.abc import Callable, Sequence

import numpy as np

from utils.contrasts import differences, variants
from utils.findings.confusion import confusion_change, largest_cells, most_confused, off_diagonal
from utils.findings.overfitting import gap_growth_in_words, overfitting_in_short
from utils.findings.results import Results
from utils.findings.runs import accuracy_over_seeds, balanced_over_seeds, plateau_epochs
from utils.findings.sentences import timed_on
from utils.findings.verdicts import FEWEST_ROUNDS
from utils.records.record import RunRecord, Runs, paired
from utils.records.timing import TimingRecord
from utils.stats.intervals import (
    FEWEST_SEEDS,
    ratio_interval,
    relative_spread,
)
from utils.stats.paired import paired_comparison
from utils.words import (
    epochs_in_words,
    markdown,
    percent,
    plateau_in_words,
    plural,
    points,
    ratio_in_words,
    setting,
    table_by_column,
    with_bounds,
)

BUSY = 0.15  # a larger relative spread between the rounds of a timing pass means that the machine was busy
PAIRS_SHOWN = 5  # pairs of confused classes in a table
SCORES = ("precision", "recall", "f1")


def main_table(runs: Runs, timing: TimingRecord | None, balanced: bool = False) -> str:
    return table_by_column(main_columns(timing, balanced), runs.items())


def main_columns(timing: TimingRecord | None, balanced: bool) -> dict[str, Callable[[str, Sequence[RunRecord]], str]]:
    """{heading: what a model and its records have there}."""
    columns = {
        "model": lambda model, _: model,
        "test accuracy, final weights": lambda _, records: percent(accuracy_over_seeds(records)),
    }
    if balanced:
        columns["balanced accuracy"] = lambda _, records: percent(balanced_over_seeds(records))
    columns |= {
        "best-validation weights": lambda _, records: percent(accuracy_over_seeds(records, "best_")),
        "parameters": lambda _, records: f"{records[0].parameters:,}",
        "MFLOPs per image": lambda _, records: f"{records[0].flops_per_image / 1e6:,.2f}",
    }
    if timing:
        times = timing.models
        columns |= {
            "training, s per epoch": lambda model, _: f"{np.median(times[model]['train_epoch_seconds']):.2f}",
            "inference, ms per batch": lambda model, _: _milliseconds(times[model]["inference_batch_seconds"]),
        }
    return columns


def training_table(results: Results) -> str:
    runs = results.runs
    columns = {
        "model": lambda model, _: model,
        "last fit loss": lambda _, records: _mean_loss([r.curve("fit_loss")[-1] for r in records]),
        "last validation loss": lambda _, records: _mean_loss([r.curve("val_loss")[-1] for r in records]),
        "lowest validation loss (epoch)": lambda _, records: _lowest_loss(records),
        "gap growth = validation risen + fit fallen": lambda model, _: gap_growth_in_words(results.overfitting[model]),
        "test loss, final weights": lambda _, records: _mean_loss([r.test_loss for r in records]),
        "test loss, best-validation weights": lambda _, records: _mean_loss([r.best_test_loss for r in records]),
        "accuracy plateau from": lambda _, records: plateau_in_words(plateau_epochs(records), len(records)),
    }
    text = table_by_column(columns, runs.items())
    notes = (
        "The gap is validation minus fit loss, and grows since the lowest stretch of epochs; by itself that is no "
        "overfitting."
    )
    if max(map(len, runs.values())) > 1:
        notes = (
            "Losses are means over seeds, epochs the lower median and the range. "
            f"{notes} Its growth is that over the seeds of the verdict on overfitting, with its interval in brackets."
        )
    return f"{text}\n\n{notes}"


def _mean_loss(losses: Sequence[float | None]) -> str:
    """The mean as text; a record holds None for a test loss that is not finite."""
    mean = np.mean(np.array(losses, dtype=float))
    return f"{mean:.4f}" if np.isfinite(mean) else "not finite"


def _lowest_loss(records: Sequence[RunRecord]) -> str:
    lowest = [np.nanmin(record.curve("val_loss")) for record in records]
    return f"{_mean_loss(lowest)} ({epochs_in_words([record.best_epoch for record in records])})"


def timing_table(runs: Runs, timing: TimingRecord | None) -> str:
    if timing is None:
        return "Times have not been measured for this kind of machine yet."
    reference, batch, times = timing.reference, timing.throughput_batch_size, timing.models

    def relative(model: str) -> str:
        if model == reference:
            return "1"
        return ratio_in_words(
            ratio_interval(times[model]["train_epoch_seconds"], times[reference]["train_epoch_seconds"])
        )

    columns = {
        "model": lambda model: model,
        "training step, ms": lambda model: _milliseconds_with_quartiles(times[model]["train_step_seconds"]),
        f"epoch time relative to {reference}": relative,
        "latency of one image, ms (p95)": lambda model: (
            f"{_milliseconds(times[model]['latency_seconds'])} ({_milliseconds(times[model]['latency_p95_seconds'])})"
        ),
        f"throughput at batch {batch}, images per s": lambda model: (
            f"{batch / np.median(times[model]['throughput_batch_seconds']):,.0f}"
        ),
    }
    notes = (
        f"On this machine, in this session ({timed_on(timing)}): {timing.rounds} shuffled rounds with nothing else "
        "running. Times are medians, quartiles in brackets; an epoch is the median step times its number of steps, "
        "without evaluation and loading the data into memory. Ratios of two models are geometric means over rounds, "
        "95% intervals in brackets."
    )
    return f"{table_by_column(columns, [(model,) for model in runs])}\n\n{notes}{doubts_on_times(timing)}"


def doubts_on_times(timing: TimingRecord) -> str:
    """What speaks against relying on the times, each sentence after a blank; "" if nothing does."""
    few = " So few rounds of a call each show that the pass works, and no more." * (timing.rounds < FEWEST_ROUNDS)
    spreads = {model: relative_spread(measured["train_step_seconds"]) for model, measured in timing.models.items()}
    worst = max(spreads, key=spreads.get)
    if spreads[worst] <= BUSY:
        return few
    return (
        f"{few} **The machine was busy:** between rounds the training step of {worst} varied by {spreads[worst]:.0%} "
        f"(interquartile range over median; up to {BUSY:.0%} counts as quiet), so don't rely on these times."
    )


def classes_table(records: Sequence[RunRecord]) -> str:
    """Precision, recall and F1 of each class on the test set, means over seeds; "" if a record lacks them."""
    names, scores = records[0].class_names, class_scores(records)
    if not scores:
        return ""
    columns = {"class": lambda row: markdown(names[row])}
    columns |= {name: lambda row, of_class=of_class: of_class[row] for name, of_class in scores.items()}
    seeds = f"means over {plural(len(records), 'seed')}" if len(records) > 1 else "1 seed"
    return (
        f"Each class on the test set, final weights, {seeds} (undefined: no test image of the class, or none taken for "
        f"it):\n\n{table_by_column(columns, [(row,) for row in range(len(names))])}"
    )


def class_scores(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """{"precision", "recall" and "F1": that of each class, mean over seeds, as text}; empty if a record lacks them."""
    if any(record.per_class is None for record in records):
        return {}
    means = {name: np.mean(np.array([r.per_class[name] for r in records], dtype=float), axis=0) for name in SCORES}
    return {
        name.replace("f1", "F1"): ["undefined" if np.isnan(score) else f"{score:.1%}" for score in scores]
        for name, scores in means.items()
    }


def confused_pairs_table(runs: Runs) -> str:
    """For each model its most frequent confusions: counts summed over seeds, as shares of the true class's images."""
    cells = {
        model: [
            f"{markdown(true)} → {markdown(predicted)} ({share:.1%})"
            for true, predicted, share in most_confused(records, PAIRS_SHOWN)
        ]
        for model, records in runs.items()
    }
    columns = {"model": lambda model, records: f"{model} ({plural(len(records), 'seed')})"} | {
        str(rank + 1): lambda model, _, rank=rank: cells[model][rank] if rank < len(cells[model]) else ""
        for rank in range(PAIRS_SHOWN)
    }
    title = "The most confused pairs, true class → predicted class, percent of the true class's test images"
    return f"{title}:\n\n{table_by_column(columns, runs.items())}"


def confusion_change_table(runs: Runs, a: str, b: str) -> str:
    """The confusions whose shares differ most between `a` and `b`: for example, what regularisation improves."""
    change, names = confusion_change(runs[a], runs[b]), runs[a][0].class_names
    changed = off_diagonal(change.mean)

    def interval(row: int, column: int) -> str:
        if change.n < FEWEST_SEEDS:
            return f"none ({plural(change.n, 'seed')})"
        return "covers 0 or is undefined" if change.unsure[row, column] else "excludes 0"

    columns = {
        "true → predicted": lambda row, column: f"{markdown(names[row])} → {markdown(names[column])}",
        "points": lambda row, column: f"{100 * changed[row, column]:+z.1f}",
        "unadjusted 95% interval": interval,
    }
    title = f"Confusions that differ most, {b} minus {a}, points of the true class's test images"
    return f"{title}:\n\n{table_by_column(columns, largest_cells(np.abs(changed), PAIRS_SHOWN))}"


def ablation_table(results: Results) -> str:
    """Each variant: what it differs in from the plain model, its accuracy, and the difference paired by seed."""
    task, runs = results.task, results.ablation
    experiments = {experiment.name: experiment for experiment in (*task.experiments, *task.ablation)}
    reference = variants(task.contrasts)[0]

    def differs(model: str, _) -> str:
        found = differences(experiments[reference], experiments[model])
        return ", ".join(setting(field, values[1]) for field, values in found.items()) or "nothing"

    def last(records: Sequence[RunRecord], part: str) -> float:
        return np.mean([record.curve(f"{part}_loss")[-1] for record in records])

    columns = {
        "model": lambda model, records: f"{model} ({plural(len(records), 'seed')})",
        f"differs from {reference} in": differs,
        "test accuracy": lambda _, records: percent(accuracy_over_seeds(records)),
        f"minus {reference}, points (same seeds)": lambda model, records: (
            "" if model == reference else _paired_difference(runs.get(reference, ()), records)
        ),
        "fit loss": lambda _, records: f"{last(records, 'fit'):.3f}",
        "gap: validation − fit loss": lambda _, records: f"{last(records, 'val') - last(records, 'fit'):.3f}",
        "overfitting": lambda model, _: overfitting_in_short(results.overfitting[model]),
    }
    return table_by_column(columns, runs.items())


def _paired_difference(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> str:
    """Test accuracy of `b` minus `a` over their common seeds, in percentage points, with its 95% t-interval.

    The number of common seeds is added if one of the two has more.
    """
    correct = [(of_a.test_correct, of_b.test_correct) for of_a, of_b in paired(a, b)]
    if not correct:
        return "no common seed"
    difference = paired_comparison(*zip(*correct, strict=True), b[0].test_total, m=1).difference
    n = f", {plural(len(correct), 'seed')}" if len(correct) < max(len(a), len(b)) else ""
    return with_bounds(difference, points) + n


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * np.median(seconds):.2f}"


def _milliseconds_with_quartiles(seconds: Sequence[float]) -> str:
    low, median, high = 1000 * np.percentile(seconds, [25, 50, 75])
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
