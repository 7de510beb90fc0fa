"""Whether a model overfits, from its seeds' curves, and that in words. Never loads torch."""

from collections.abc import Sequence

import numpy as np

from utils.findings.runs import of_look
from utils.records.record import RunRecord
from utils.stats.intervals import FEWEST_SEEDS
from utils.stats.looks import LOOKS
from utils.stats.overfitting import FEWEST_EPOCHS, TAIL, Overfitting, overfitting
from utils.words import plural, seeds_needed_in_words, with_bounds

LOOK_TAIL = TAIL / len(LOOKS)
DECIDED = ("overfits", "rises", "none")  # what a look says in these words stays
RISEN = "is lowest around epoch {lowest}{possible} and ends {rise} higher ({low} to {high}%)"
# {word of a verdict: what it says}
IN_SHORT = {
    "overfits": f"overfits: validation loss {RISEN}, while the fit loss falls",
    "rises": f"validation loss rises, though the fit loss isn't shown to fall: it {RISEN}",
    "none": "none within {epochs} epochs: at the end validation loss lies {bound} every earlier stretch",
    "not decided": "not decided: at the end validation loss lies between {between} its lowest earlier stretch",
    "too few seeds": "{did}{seeds}, and it takes {fewest_seeds} to judge",
    "too few epochs": "no verdict, too few epochs ({epochs}; it takes {fewest_epochs})",
    "unequal lengths": "no verdict, since runs stopped after {shortest} to {epochs} epochs",
    "undefined": "undefined, since a loss isn't a positive number or the rise is the same in all of {seeds}",
}


def overfitting_of(records: Sequence[RunRecord], tail: float = TAIL) -> Overfitting:
    """The verdict on a model by its finished runs, one for each seed; `tail` is the error rate of each bound."""
    val_loss, fit_loss = ([record.curve(f"{part}_loss") for record in records] for part in ("val", "fit"))
    return overfitting(val_loss, fit_loss, tail)


def overfitting_by_looks(records: Sequence[RunRecord]) -> Overfitting:
    """The verdict of the first look that decides, else of the last that can be made; before the first, what runs did.

    See `utils.stats.looks`. Each bound of a look has its share of the error rate.
    """
    found = overfitting_of(records[: FEWEST_SEEDS - 1])
    for seen in filter(None, (of_look(records, n) for n in LOOKS)):
        found = overfitting_of(seen, LOOK_TAIL)
        if found.word in DECIDED:
            break
    return found


def overfitting_in_short(found: Overfitting) -> str:
    """The verdict with its numbers, without the model's name; for fewer than 3 seeds, what the runs did.

    That of a look names its seeds, since there may be more by now.
    """
    text = IN_SHORT[found.word].format(**_numbers(found))
    if found.tail != LOOK_TAIL or found.word not in (*DECIDED, "not decided"):
        return text
    made = "decided at" if found.word in DECIDED else "open after"
    return f"{text}; {made} the look at {plural(found.seeds, 'seed')}"


def overfitting_sentence(model: str, found: Overfitting) -> str:
    """The whole sentence: the model, the verdict, and how many seeds it comes from or would probably take."""
    text = overfitting_in_short(found)
    if found.word == "not decided":
        text += f"; {seeds_needed_in_words(found.seeds_needed)}"
    elif found.word in DECIDED and found.tail == TAIL:
        text += f"; {plural(found.seeds, 'seed')}"
    return f"{model} {text}" if found.word == "overfits" else f"{model}: {text}"


def gap_growth_in_words(found: Overfitting) -> str:
    """For example "0.304 (0.267 to 0.342) = 0.089 + 0.215": the growth, validation risen plus fit fallen; or "–"."""
    if np.isnan(found.gap_growth.estimate):
        return "–"
    growth = with_bounds(found.gap_growth, "{:z.4f}".format)
    risen, fallen = np.mean(found.val_changes), -np.mean(found.fit_changes)
    return f"{growth} = {risen:z.4f} {'+' if fallen >= 0 else '−'} {abs(fallen):.4f}"


def _numbers(found: Overfitting) -> dict[str, str | int | None]:
    rise, (shortest, epochs) = found.rise, found.lengths
    return {
        "lowest": found.lowest,
        "possible": _possible(found.kept),
        "rise": f"{abs(rise.estimate):.1%}",
        "low": f"{100 * rise.low:.1f}",
        "high": f"{100 * rise.high:.1f}",
        "between": _between(rise.low, rise.high),
        "bound": f"{'at most' if rise.high >= 0 else 'at least'} {_above(rise.high)}",
        "did": _what_they_did(found),
        "shortest": shortest,
        "epochs": epochs,
        "seeds": plural(found.seeds, "seed"),
        "fewest_seeds": FEWEST_SEEDS,
        "fewest_epochs": FEWEST_EPOCHS,
    }


def _possible(kept: Sequence[int]) -> str:
    if not kept:
        return ""
    return f" ({kept[0]} to {kept[-1]} possible)" if kept[0] < kept[-1] else f" (only {kept[0]} possible)"


def _above(rise: float) -> str:
    return f"{abs(rise):.1%} {'above' if rise >= 0 else 'below'}"


def _between(low: float, high: float) -> str:
    """Such as "0.5% and 18.4% above" or "3.2% below and 14.1% above"; a bound of 18.4% is no number of points."""
    if low < 0 <= high:
        return f"{_above(low)} and {_above(high)}"
    nearer, further = sorted((low, high), key=abs)
    return f"{abs(nearer):.1%} and {_above(further)}"


def _what_they_did(found: Overfitting) -> str:
    if np.isnan(found.rise.estimate):
        return ""
    if found.rise.estimate == 0:
        return "validation loss was lowest at the end; "
    fit = "fell" if sum(found.fit_changes) < 0 else "didn't fall"
    return (
        f"validation loss was lowest around epoch {found.lowest} and ended {found.rise.estimate:.1%} higher, while the "
        f"fit loss {fit}; "
    )
