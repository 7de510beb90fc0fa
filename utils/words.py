"""Numbers as text, and Markdown lists and tables. Never loads torch."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_low

import numpy as np

from utils.stats.intervals import Interval
from utils.stats.looks import LOOKS
from utils.stats.power import MOST_SEEDS


def with_bounds(interval: Interval, in_words: Callable[[float], str]) -> str:
    """The estimate, followed by its bounds in brackets if it has any. `in_words` formats one number."""
    text = in_words(interval.estimate)
    return text if np.isnan(interval.low) else f"{text} ({in_words(interval.low)} to {in_words(interval.high)})"


def percent(interval: Interval) -> str:
    """For example "98.12%", or "98.12% (97.99% to 98.25%)" if there is an interval."""
    return with_bounds(interval, "{:.2%}".format)


def epochs_in_words(epochs: Sequence[int]) -> str:
    """The median epoch and the range: "9, 8 to 10", or "9" if all are equal.

    Of an even number of epochs it takes the lower median, so that the result is one of the epochs.
    """
    median, low, high = median_low(epochs), min(epochs), max(epochs)
    return str(median) if low == high else f"{median}, {low} to {high}"


def plateau_in_words(epochs: Sequence[int], seeds: int) -> str:
    """From which epoch accuracy stays on a plateau: `epochs` has one entry for each of the `seeds` that reached one."""
    if not epochs:
        return "not reached"
    return f"epoch {epochs_in_words(epochs)}" + (f" ({len(epochs)} of {seeds} seeds)" if len(epochs) < seeds else "")


def setting(field: str, value) -> str:
    """A recipe field and its value, for example "weight decay 0.01"; for a switch "augmentation", "no augmentation"."""
    name = field.replace("_", " ")
    return name if value is True else f"no {name}" if value is False else f"{name} {plain(value)}"


def plain(value) -> str:
    """The value of a setting: "on" or "off" for a switch, and 0.0 as "0"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_a_row(items: Sequence[str]) -> str:
    """For example "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """For example "45 s", "12 min" or "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def markdown(text: str) -> str:
    """`text`, such as a model's name, so that Markdown shows it letter for letter, in tables and mathematics too.

    An underscore within a word means nothing there and stays, and so does most text as a whole.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    text = re.sub(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
    # At the beginning of a line these would make a heading, a quotation or a list.
    return re.sub(r"^(\d*)([#>+.)-])(?!\w)", r"\1\\\2", text)


def bullets(sentences: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {sentence}." for sentence in sentences)


def picture_link(name: str, alt: str) -> str:
    """A picture that lies beside the page, in Markdown."""
    return f"![{alt}]({name}.png)"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_by_column(columns: Mapping[str, Callable[..., str]], rows: Iterable[Sequence]) -> str:
    """A Markdown table. `columns` is {heading: function}; the function gets the items of a row and returns the cell."""
    return table(list(columns), [[cell(*row) for cell in columns.values()] for row in rows])


def runs_in_words(seeds_of: Mapping[str, Sequence[int]], what: str = "") -> str:
    """For example "FCN with seeds 1, 2 and CNN with seed 0", from {model: seeds}; `what` follows each model's name."""
    return " and ".join(
        f"{model}{what} with {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        for model, seeds in seeds_of.items()
    )


def lost_runs_in_words(diverged: Mapping[str, Sequence[int]], *models: str) -> str:
    """The end of a sentence about `models`: which of their runs diverged and are not counted; "" if none did."""
    lost = {model: diverged[model] for model in models if model in diverged}
    return f"; not counted: {runs_in_words(lost, ' diverged')}" if lost else ""


def points(fraction: float, digits: int = 2) -> str:
    """A fraction in percentage points, with a sign only if it is negative, and never "-0.00"."""
    return f"{100 * fraction:z.{digits}f}"


def points_with_bounds(interval: Interval) -> str:
    if np.isnan(interval.low):
        return f"{points(interval.estimate)} points (no interval: nothing varies)"
    return f"{points(interval.estimate)} points ({points(interval.low)} to {points(interval.high)})"


def three_digits(ratio: float) -> str:
    """Three significant digits, for example "0.0581", "1.02" or "31.5"; larger numbers as "1,234"."""
    return f"{ratio:#.3g}".rstrip(".") if ratio < 999.5 else f"{ratio:,.0f}"


def level_in_words(level: float) -> str:
    """The level of an interval, "90%" or "96.7%"."""
    return f"{round(100 * level, 1):g}%"


def ratio_in_words(ratio: Interval) -> str:
    """For example "0.352 (0.320 to 0.381)"; the estimate alone if there is no interval."""
    return with_bounds(ratio, three_digits)


def share_of_time(ratio: Interval, other: str) -> str:
    """For example "0.352 (0.320 to 0.381) of FCN's time" or "31.5 (31.3 to 31.7) times FCN's time"."""
    return f"{ratio_in_words(ratio)} {'of' if ratio.estimate < 0.995 else 'times'} {other}'s time"


def seeds_needed_in_words(n: int | None, by_looks: bool) -> str:
    """How many seeds a question needs: "about 7", or "more than 50" if `utils.stats.power` found no number.

    If verdicts are made by looks, it is the look at which there are so many.
    """
    if by_looks:
        n = next((look for look in LOOKS if n is not None and look >= n), None)
    return f"more than {LOOKS[-1] if by_looks else MOST_SEEDS}" if n is None else f"about {n}"


def p_in_words(p: float | None) -> str:
    if p is None:
        return "p undefined"
    if 0.05 < p < 0.0505:  # a rounded 0.050 would look significant
        return "p > 0.05"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
