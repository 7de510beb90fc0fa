"""The original report that this suite re-examines: its figures and its claims. Never loads torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from utils.checkout import CHECKOUT

ORIGINAL_REPORT = CHECKOUT / "docs" / "original_report.json"


@dataclass(frozen=True)
class Claim:
    """A claim in the report's words, the rule of `utils.report.claims` that re-examines it, and that rule's arguments.

    `note` says what of the claim isn't judged; `scope`, what its outcome holds for.
    """

    text: str
    rule: str
    arguments: Mapping
    note: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Original:
    """What the report has of one task, models by our names: `runs`, {model: its figures}, and `claims`."""

    runs: Mapping[str, dict] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    def overfitting(self, model: str) -> str:
        """From which epoch the report says that the model overfits."""
        epochs = next((claim.arguments["epochs"] for claim in self.claims if claim.rule == "overfits"), {})
        return f"from epoch {epochs[model]}" if epochs.get(model) else "none"


def read_original(task: str) -> Original:
    """The report on the task called `task`."""
    report = json.loads(ORIGINAL_REPORT.read_text(encoding="utf-8"))

    def renamed(value):
        """The same with each of the report's own names for models replaced by ours."""
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
    """Such as "9 (CIFARCNN), not at all (CNN-Regularized)"."""
    return ", ".join(f"{'not at all' if epoch is None else epoch} ({model})" for model, epoch in epochs.items())
