"""Results in words: tables and sentences from records. Never loads torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from utils.claims import Evidence, examined
from utils.comparisons import FAMILY_ERROR_RATE
from utils.experiment import Contrast, Task, differences, variants
from utils.flow import depth_verdict, has_flow
from utils.results import RunRecord, Runs, TimingRecord, share_a_seed
from utils.stats import (
    Interval,
    accuracy_plateau,
    mean_interval,
    ratio_interval,
    relative_spread,
    roughness,
)
from utils.verdicts import (
    accuracy_sentence,
    accuracy_verdicts,
    depth_sentence,
    secondary_sentence,
    stability_sentence,
    stability_verdicts,
    time_sentence,
)
from utils.words import bullets, epochs_in_words, percent, plural, points, table

BUSY = 0.15  # a larger spread between the rounds of a timing pass means that the machine did something else


def results_text(
    runs: Runs,
    left_out: Sequence[str],
    timing: TimingRecord | None,
    original: Mapping[str, dict],
    claims: Sequence[str],
    pictures: str,
    task: Task,
) -> str:
    """The results of a task in Markdown, ending in a newline; `pictures` is the folder to link pictures from.

    `task` declares the contrasts to judge; `original` holds the original report's figures, {model: its run}, for those
    of the models that it had, and `claims` its claims on this task.
    """
    if not runs:
        return "\n\n".join(["No finished run of the current recipes yet.", _left_out(left_out)]).strip() + "\n"
    parts = [
        _what_was_run(runs),
        _main_table(runs, timing),
        _sentence_on_seeds(runs),
        _verdicts(runs, timing, task, pictures),
        _picture("all_models_curves", "Validation loss and accuracy over the epochs, all models together", pictures),
        _training_table(runs),
        _sentence_on_training(runs),
        _picture("comparison", "Parameters, training time, inference time and test accuracy of each model", pictures),
        _picture("accuracy_vs_cost", "Test accuracy against training time, inference time and parameters", pictures),
        _picture("training_time", "Training time of each model, an epoch and the whole run", pictures),
        _timing_table(runs, timing),
        _original_table(runs, original),
        _claims(claims, Evidence(runs, timing, task)),
        _gradients(runs, pictures),
        _confusion_difference(runs, variants(task.contrasts), pictures),
        *(_model_pictures(model, records, pictures) for model, records in runs.items()),
        _weights(next(iter(runs.values()))[0]),
        _left_out(left_out),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_was_run(runs: Runs) -> str:
    first = next(iter(runs.values()))[0]
    config = first.config
    seeds = sorted({record.seed for records in runs.values() for record in records})
    optimizer = {"adam": "Adam", "sgd": "SGD"}[config["optimizer"]]
    momentum = f", momentum {config['momentum']:g}" if "momentum" in config else ""
    machines = dict.fromkeys(_machine(record) for records in runs.values() for record in records)
    return (
        f"{first.data_name}, {plural(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), {plural(config['epochs'], 'epoch')}, batches of {config['batch_size']}, "
        f"{optimizer} with learning rate {config['learning_rate']:g}{momentum}. Trained on {' and on '.join(machines)}."
    )


def _machine(record: RunRecord) -> str:
    on = record.environment
    threads = f", {plural(on['threads'], 'thread')} a run" if on["device"] == "cpu" else ""
    return f"{on['device_name'] or on['device']} ({record.kind}{threads}, PyTorch {on['torch']})"


def _main_table(runs: Runs, timing: TimingRecord | None) -> str:
    header = ["model", "test accuracy, final weights", "best-validation weights", "parameters", "MFLOPs per image"]
    header += ["training, s per epoch", "inference, ms per batch"] if timing else []
    rows = []
    for model, records in runs.items():
        final = accuracy_interval([r.test_correct for r in records], records[0].test_total)
        best = accuracy_interval([r.best_test_correct for r in records], records[0].test_total)
        row = [model, percent(final), percent(best), f"{records[0].parameters:,}"]
        row.append(f"{records[0].flops_per_image / 1e6:,.2f}")
        if timing:
            measured = timing.models[model]
            row.append(f"{np.median(measured['train_epoch_seconds']):.2f}")
            row.append(f"{1000 * np.median(measured['inference_batch_seconds']):.2f}")
        rows.append(row)
    return table(header, rows)


def _sentence_on_seeds(runs: Runs) -> str:
    seeds = sorted({record.seed for records in runs.values() for record in records})
    lacking = [f"{model} ({len(records)})" for model, records in runs.items() if len(records) < len(seeds)]
    text = "Intervals: two-sided 95% t-intervals over seeds." if len(seeds) > 1 else ""
    if lacking:
        text += f" Fewer than {len(seeds)} seeds: {', '.join(lacking)}."
    if min(map(len, runs.values())) == 1:
        text += (
            " One seed shows no spread: it can't say which model is more accurate, from which epoch a model tends to "
            "overfit, or which trains more steadily. More seeds (`--num-seeds 6`) can."
        )
    return text.strip()


def _verdicts(runs: Runs, timing: TimingRecord | None, task: Task, pictures: str) -> str:
    """The planned contrasts judged: accuracy first, then steadiness, time, and what the test images say."""
    present = [contrast for contrast in task.contrasts if share_a_seed(runs, contrast.a, contrast.b)]
    if not present:
        return ""
    m, margin = len(task.contrasts), task.equivalence_margin
    level = f"{1 - FAMILY_ERROR_RATE / m:.1%}"
    parts = {
        f"Verdicts on test accuracy (final weights; {plural(m, 'planned contrast')}, Holm-adjusted; intervals of "
        f"differences at {level}; equivalent means within {points(margin)} points)": [
            accuracy_sentence(verdict) for verdict in accuracy_verdicts(runs, task.contrasts, margin)
        ],
        "Steadiness of training, by the roughness of validation loss": [
            stability_sentence(verdict) for verdict in stability_verdicts(runs, task.contrasts)
        ],
        "Training time, on this machine, in this session": [
            time_sentence(timing, contrast.a, contrast.b) for contrast in present if timing
        ],
        "Secondary, for these seeds only: whether it would hold on new test images": [
            secondary_sentence(runs, contrast) for contrast in present
        ],
        "What the contrasted recipes differ in, beside the architecture": [
            _recipes_in_words(task, contrast) for contrast in present
        ],
    }
    lists = [f"{title}:\n\n" + bullets(lines) for title, lines in parts.items() if lines]
    picture = _picture("contrasts", "Planned differences of test accuracy with their intervals against zero", pictures)
    return "\n\n".join([lists[0], picture, *lists[1:]])


def _recipes_in_words(task: Task, contrast: Contrast) -> str:
    experiments = {experiment.name: experiment for experiment in task.experiments}
    found = differences(experiments[contrast.a], experiments[contrast.b])
    told = ", ".join(f"{name} {values[0]} and {values[1]}" for name, values in found.items())
    return f"{contrast.a} and {contrast.b}: {told or 'nothing'}"


def _training_table(runs: Runs) -> str:
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
        plateaus = [p for r in records if (p := accuracy_plateau(r.curve("val_accuracy"))) is not None]
        rough = mean_interval([roughness(r.curve("val_loss")) for r in records]).estimate
        rows.append(
            [
                model,
                f"{np.mean([r.curve('fit_loss')[-1] for r in records]):.4f}",
                f"{np.mean([r.curve('val_loss')[-1] for r in records]):.4f}",
                f"{np.mean(lowest):.4f} ({epochs_in_words([r.best_epoch for r in records])})",
                f"epoch {epochs_in_words(plateaus)}" if plateaus else "not defined",
                "not defined" if np.isnan(rough) else f"{np.exp(rough):.3f}",
            ]
        )
    return table(header, rows)


def _sentence_on_training(runs: Runs) -> str:
    lines = [f"{model}: {overfitting_sentence(records)}" for model, records in runs.items()]
    return "Overfitting, by the rule in “What the numbers mean”:\n\n" + bullets(lines)


def overfitting_sentence(records: Sequence[RunRecord]) -> str:
    """Where a model's runs overfit, such as "overfits from epoch 9 (3 of 3 seeds, 8 to 10)"."""
    onsets = [record.onset for record in records]
    epochs = [onset.epoch for onset in onsets if onset.epoch is not None]
    if not epochs:
        return onsets[0].reason
    spread = f", {min(epochs)} to {max(epochs)}" if len(epochs) > 1 else ""
    return f"overfits from epoch {np.median(epochs):g} ({len(epochs)} of {plural(len(records), 'seed')}{spread})"


def _timing_table(runs: Runs, timing: TimingRecord | None) -> str:
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
                "1" if model == reference else f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                f"{_milliseconds(measured['latency_seconds'])} ({_milliseconds(measured['latency_p95_seconds'])})",
                f"{throughput:,.0f}",
            ]
        )
    on = timing.environment
    threads = f", {plural(on['threads'], 'thread')}" if on["device"] == "cpu" else ""
    notes = (
        f"On this machine, in this session ({on['device_name'] or on['device']}{threads}, {on['precision']}, PyTorch "
        f"{on['torch']}): medians over {timing.rounds} shuffled rounds with nothing else running, quartiles or 95% "
        f"intervals in brackets. Training time excludes loading the data into memory and evaluation."
    )
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


def _original_table(runs: Runs, original: Mapping[str, dict]) -> str:
    if not original:
        return ""
    rows = []
    for model, records in runs.items():
        if model in original:
            figures, claim = original[model], original[model]["claims"].get("overfitting_from_epoch")
            ours = accuracy_interval([r.test_correct for r in records], records[0].test_total)
            claimed = f"from epoch {claim}" if claim else "none"
            row = [model, f"{figures['val_accuracy'][-1]:.2f}%", percent(ours), claimed]
            rows.append([*row, overfitting_sentence(records)])
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


def _claims(claims: Sequence[str], evidence: Evidence) -> str:
    if not claims:
        return ""
    header = ["the original report's claim", "ours", "by these numbers", "and this rule"]
    return "Its claims, re-examined (confirmed, refuted, or not decided):\n\n" + table(
        header, examined(claims, evidence)
    )


def _gradients(runs: Runs, pictures: str) -> str:
    flow = {model: depth_verdict(records) for model, records in runs.items() if any(map(has_flow, records))}
    if not flow:
        return ""
    lines = [f"{model}: {depth_sentence(verdict)}" for model, verdict in flow.items()]
    title = "Gradients over depth in the first epoch (vanishing, exploding, neither)"
    picture = _picture("gradient_by_depth", "Gradient norm of each layer against its depth, model by model", pictures)
    return f"{title}:\n\n{bullets(lines)}\n\n{picture}"


def _confusion_difference(runs: Runs, pair: tuple[str, str] | None, pictures: str) -> str:
    if pair is None or not share_a_seed(runs, *pair):
        return ""
    return _picture("confusion_difference", f"Confusion of {pair[1]} minus that of {pair[0]}, class by class", pictures)


def _model_pictures(model: str, records: Sequence[RunRecord], pictures: str) -> str:
    images = [
        _picture(f"{model}_curves", f"Learning curves of {model}: loss and accuracy over the epochs", pictures),
        _picture(f"{model}_confusion_matrix", f"Confusion matrix of {model} on the test set", pictures),
        _picture(f"{model}_mistakes", f"The most confident mistakes of {model} on the test set", pictures),
    ]
    if any(map(has_flow, records)):
        images += [
            _picture(f"{model}_gradient_flow", f"Gradient norms of {model}'s layers over training", pictures),
            _picture(f"{model}_update_ratio", f"Update ratios of {model}'s layers over training", pictures),
        ]
    inside = "\n\n".join(images)
    return (
        f"<details><summary>{model}: curves, confusion matrix, mistakes, gradients</summary>\n\n{inside}\n\n</details>"
    )


def _weights(record: RunRecord) -> str:
    """The lines that load what the run trained."""
    name = record.model_options["class"]
    arguments = [str(record.image_shape), str(len(record.class_names))]
    arguments += [f"{option}={value!r}" for option, value in record.model_options.items() if option != "class"]
    folder = f"runs/{record.task}/{record.kind}/{record.model}/{record.config_hash}/seed{record.seed}"
    return (
        f"After training here, the weights of {record.stem} load with (`best.safetensors`: best validation; "
        "inputs are normalised as in `utils/datasets.py`):\n\n"
        "    from safetensors.torch import load_file\n"
        f"    from models import {name}\n"
        f"    model = {name}({', '.join(arguments)}); "
        f'model.load_state_dict(load_file("{folder}/final.safetensors")); model.eval()'
    )


def _left_out(left_out: Sequence[str]) -> str:
    return "Left out of these results:\n\n" + bullets(left_out) if left_out else ""


def _picture(name: str, alt: str, pictures: str) -> str:
    return f"![{alt}]({pictures}{name}.png)"


def accuracy_interval(correct: Sequence[int], total: int) -> Interval:
    """Mean accuracy over seeds and its interval, from counts of right predictions; fractions."""
    interval = mean_interval(correct)
    return Interval(interval.estimate / total, interval.low / total, interval.high / total, interval.n)


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * np.median(seconds):.2f}"


def _milliseconds_with_quartiles(seconds: Sequence[float]) -> str:
    low, median, high = 1000 * np.percentile(seconds, [25, 50, 75])
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
