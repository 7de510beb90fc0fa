"""Which model is the best, and what it is to the others. Never loads torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.findings.results import Results
from utils.findings.verdicts import Verdict

# What the best model can be to another one: a word of a verdict, or none of them.
RELATIONS = ("better", "worse", "equivalent", "not distinguished", "too few seeds", "undefined", "not compared")


@dataclass(frozen=True)
class Ranking:
    """The best model and the others, by mean test accuracy, plain or balanced, with the final weights.

    `level` is the mean of each model, a fraction. `relations` maps each other model, the most accurate first, to one of
    RELATIONS: what `top` is to it.
    """

    top: str
    level: Mapping[str, float]
    relations: Mapping[str, str]
    verdicts: Sequence[Verdict]

    @property
    def next(self) -> str | None:
        return next(iter(self.relations), None)

    def lead(self, other: str) -> float:
        """By how much `top` is more accurate: over the seeds of their verdict, or else the difference of the means."""
        direct = between(self.verdicts, self.top, other)
        if direct is None:
            return self.level[self.top] - self.level[other]
        return direct.lead.estimate if direct.higher == self.top else -direct.lead.estimate


def between(verdicts: Sequence[Verdict], a: str, b: str) -> Verdict | None:
    """The verdict on two models, in either order; None without one."""
    return next((verdict for verdict in verdicts if {verdict.a, verdict.b} == {a, b}), None)


def rank(results: Results) -> Ranking:
    """The best model is the most accurate one that no verdict, or chain of verdicts, calls worse than another.

    If A is better than B and B better than C, then A is better than C: no verdict of its own is needed for that.
    """
    verdicts = results.accuracy_verdicts
    level = {model: results.level(records).estimate for model, records in results.runs.items()}
    ranked = sorted(level, key=level.get, reverse=True)
    worse = {model: {v.lower for v in verdicts if v.word == "better" and v.higher == model} for model in ranked}
    for middle in ranked:  # all chains: Warshall's transitive closure
        for model in ranked:
            if middle in worse[model]:
                worse[model] |= worse[middle]
    # Each pair is judged by its common seeds. If models have different ones, verdicts could form a circle.
    top = next((model for model in ranked if not any(model in worse[other] for other in ranked)), ranked[0])

    def relation(other: str) -> str:
        if other in worse[top]:
            return "better"
        if top in worse[other]:
            return "worse"
        verdict = between(verdicts, top, other)
        return verdict.word if verdict else "not compared"

    return Ranking(top, level, {other: relation(other) for other in ranked if other != top}, verdicts)
