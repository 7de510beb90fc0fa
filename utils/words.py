"""Numbers in words, and Markdown. Never loads torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from utils.stats import Interval


def percent(interval: Interval) -> str:
    """Such as "98.12%", or "98.12% (97.99% to 98.25%)" where there is an interval."""
    text = f"{interval.estimate:.2%}"
    return text if np.isnan(interval.low) else f"{text} ({interval.low:.2%} to {interval.high:.2%})"


def epochs_in_words(epochs: Sequence[int]) -> str:
    """The median, and the range where there is one: "9", or "9, 8 to 10"."""
    median, low, high = np.median(epochs), min(epochs), max(epochs)
    return f"{median:g}" if low == high else f"{median:g}, {low} to {high}"


def setting(field: str, value) -> str:
    """A field of a recipe and its value: "weight decay 0.01"; of a switch the name alone."""
    name = field.replace("_", " ")
    return name if value is True else f"no {name}" if value is False else f"{name} {plain(value)}"


def plain(value) -> str:
    """A setting's value, such as 0 for 0.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def bullets(sentences: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {sentence}." for sentence in sentences)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def diverged_in_words(diverged: Mapping[str, Sequence[int]]) -> str:
    """Such as "FCN diverged with seeds 1, 2", of {model: seeds}."""
    return " and ".join(
        f"{model} diverged with {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        for model, seeds in diverged.items()
    )


def lost_runs_in_words(diverged: Mapping[str, Sequence[int]], *models: str) -> str:
    """Which runs a statement about `models` had to do without, to be appended to it."""
    lost = {model: diverged[model] for model in models if model in diverged}
    return f"; not counted: {diverged_in_words(lost)}" if lost else ""


def points(fraction: float, digits: int = 2) -> str:
    """A fraction in points of percent, with a sign only if negative, never "-0.00"."""
    return f"{100 * fraction:z.{digits}f}"


def points_with_bounds(interval: Interval) -> str:
    if np.isnan(interval.low):
        return f"{points(interval.estimate)} points (no interval: nothing varies)"
    return f"{points(interval.estimate)} points ({points(interval.low)} to {points(interval.high)})"


def three_digits(ratio: float) -> str:
    """Such as "0.0581", "1.02" or "31.5"."""
    return f"{ratio:#.3g}".rstrip(".")


def ratio_in_words(ratio: Interval) -> str:
    """Such as "0.352 (0.320 to 0.381)"; the estimate alone where there is no interval."""
    bounds = "" if np.isnan(ratio.low) else f" ({three_digits(ratio.low)} to {three_digits(ratio.high)})"
    return three_digits(ratio.estimate) + bounds


def share_of_time(ratio: Interval, other: str) -> str:
    """Such as "0.352 (0.320 to 0.381) of FCN's time" or "31.5 (31.3 to 31.7) times FCN's time"."""
    return f"{ratio_in_words(ratio)} {'of' if ratio.estimate < 0.995 else 'times'} {other}'s time"


def p_in_words(p: float | None) -> str:
    if p is None:
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
