"""The original report that this suite re-examines: its numbers and its claims. Never loads torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from utils.checkout import CHECKOUT

ORIGINAL_REPORT = CHECKOUT / "docs" / "original_report.json"


@dataclass(frozen=True)
class Claim:
    """A claim in the report's words.

    `rule` is the name of the rule of `utils.report.claims` that judges it, and `arguments` are that rule's arguments.
    `note` says which part of the claim is not judged, `scope` what the outcome is limited to.
    """

    text: str
    rule: str
    arguments: Mapping
    note: str = ""
    scope: str = ""


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
