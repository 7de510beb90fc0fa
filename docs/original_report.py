"""The original report that this suite re-examines: its figures and claims beside the records in plots/.

python -m docs.original_report    # writes the tables in docs/original-report.md anew
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from docs.original_claims import Claim, examine
from task_1_1_mnist import TASK as TASK_1_1
from task_1_2_cifar import TASK as TASK_1_2
from utils.checkout import CHECKOUT
from utils.command.plan import PLOTS, hashes_of
from utils.data.specs import DATASETS, data_sha256
from utils.experiment import Declared, Task, under_original_protocol
from utils.findings.overfitting import overfitting_in_short
from utils.findings.results import Results, read_results
from utils.findings.runs import accuracy_over_seeds
from utils.records.kinds import shown_kind
from utils.records.record import Runs
from utils.report.page import NOTHING_YET
from utils.report.readme import update_block
from utils.stats.intervals import as_share, mean_interval, prediction_interval
from utils.training.sources import model_hash
from utils.words import percent, plural, points, table_by_column

PAGE = CHECKOUT / "docs" / "original-report.md"
ORIGINAL_REPORT = CHECKOUT / "docs" / "original_report.json"


@dataclass(frozen=True)
class Original:
    """What the report says about one task: `runs`, {model: its numbers}, and `claims`. Models have our names."""

    runs: Mapping[str, dict] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    def overfitting(self, model: str) -> str:
        """The epoch from which, by the report, the model overfits: "from epoch 9", or "none"."""
        epochs = next((claim.arguments["epochs"] for claim in self.claims if claim.rule == "overfits"), {})
        return f"from epoch {epochs[model]}" if epochs.get(model) else "none"


def read_original(task: str) -> Original:
    """What the report says about the task named `task`, such as "task_1_1"."""
    report = json.loads(ORIGINAL_REPORT.read_text(encoding="utf-8"))

    def renamed(value):
        """`value` with the report's names of models replaced by ours, at every level."""
        if isinstance(value, Mapping):
            return {renamed(key): renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return report["our_names"].get(value, value)

    runs = {renamed(name): run for name, run in report["runs"].items() if run["task"] == task}
    claims = [
        Claim(
            text=claim["claim"].format(epochs=_in_words(claim["arguments"].get("epochs", {}))),
            rule=claim["rule"],
            arguments=renamed(claim["arguments"]),
            note=claim.get("note", ""),
            scope=claim.get("scope", ""),
        )
        for claim in report["claims"]
        if claim["task"] == task
    ]
    return Original(runs, claims)


def _in_words(epochs: Mapping[str, int | None]) -> str:
    """For example "9 (CIFARCNN), not at all (CNN-Regularized)"."""
    return ", ".join(f"{'not at all' if epoch is None else epoch} ({model})" for model, epoch in epochs.items())


def results_of(task: Task) -> Results:
    """What the records in plots/ of the platform that the pages show hold for the task."""
    experiments, dataset = [*task.experiments, *task.ablation], DATASETS[task.dataset]
    code = {experiment.name: model_hash(experiment) for experiment in experiments}
    records = PLOTS / task.name / "records"
    declared = Declared(hashes_of(experiments, dataset), code, data_sha256(dataset, {}))
    return read_results(records / shown_kind(records), task, declared, None)


def blocks_of(results: Results, original: Original) -> dict[str, str]:
    """The page's blocks of a task: its claims and figures, or by its own protocol the figures alone."""
    name = results.task.name
    if not results.runs:
        return {name: NOTHING_YET}
    if results.task.protocol == "original":
        return {name: protocol_table(results.runs, original)}
    columns = {
        "the original report's claim": lambda row: row.claim,
        "ours": lambda row: row.outcome,
        "by these numbers": lambda row: row.numbers,
        "by this rule": lambda row: row.rule,
    }
    claims = table_by_column(columns, [(examine(claim, results),) for claim in original.claims])
    return {f"claims/{name}": f"{figures_table(results, original)}\n\n{claims}"}


def figures_table(results: Results, original: Original) -> str:
    """Its accuracies and epochs of overfitting beside ours; "" if we have none of its models."""
    runs = results.runs
    both = [(model, records) for model, records in runs.items() if model in original.runs]
    if not both:
        return ""
    columns = {
        "model": lambda model, _: model,
        "original: last accuracy on the test set": lambda model, _: f"{original.runs[model]['val_accuracy'][-1]:.2f}%",
        "ours: test accuracy": lambda _, records: percent(accuracy_over_seeds(records)),
        "original: overfitting": lambda model, _: original.overfitting(model),
        "ours": lambda model, _: overfitting_in_short(results.overfitting[model]),
    }
    return table_by_column(columns, both)


def protocol_table(runs: Runs, original: Original) -> str:
    """The validation accuracies of the last epoch beside those of the original report, which had one run a model."""
    ours = {model: [record.curve("val_accuracy")[-1] for record in records] for model, records in runs.items()}
    theirs = {model: run["val_accuracy"][-1] / 100 for model, run in original.runs.items()}
    columns = {
        "model": lambda model: model,
        "original": lambda model: f"{theirs[model]:.2%}" if model in theirs else "–",
        "ours": lambda model: percent(as_share(mean_interval(ours[model]))),
        "original minus ours, points": lambda model: (
            points(theirs[model] - mean_interval(ours[model]).estimate) if model in theirs else "–"
        ),
        "more than seeds explain?": lambda model: (
            _beyond_seeds(theirs[model], ours[model]) if model in theirs else "it had no such model"
        ),
    }
    return table_by_column(columns, [(model,) for model in runs])


def _beyond_seeds(value: float, accuracies: Sequence[float]) -> str:
    """Whether a run with accuracy `value` lies outside the prediction interval of our runs with `accuracies`."""
    expected, n = as_share(prediction_interval(accuracies)), plural(len(accuracies), "seed")
    if np.isnan(expected.low):
        return f"can't be said ({n})"
    inside = expected.low <= value <= expected.high
    bounds = f"{expected.low:.2%} to {expected.high:.2%}"
    return f"{'no' if inside else '**yes**'}: one more run is expected at {bounds} ({n})"


def main() -> None:
    """Write all blocks of the page. Raises OSError."""
    for task in (TASK_1_1, TASK_1_2):
        for variant in (task, under_original_protocol(task)):
            for name, text in blocks_of(results_of(variant), read_original(task.name)).items():
                update_block(PAGE, name, text, f"../plots/{variant.name}")


if __name__ == "__main__":
    main()
