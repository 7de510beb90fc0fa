"""Names of any length and in any script: measured, wrapped, shortened, and a font that has their letters.

Never loads torch.
"""

import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ticker import LogFormatterSciNotation

from utils.streams import warn

NAME_POINTS = 185  # the width of a model's name beside its row, in points
ELLIPSIS = "…"


def width_of(text: str, size: float) -> float:
    """How wide a line of text of this font size is, in points."""
    return _renderer().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, 72)  # with 72 pixels an inch, a pixel is a point


def rows_of(text: str, points: float, size: float = 10) -> list[str]:
    """`text` broken into rows no wider than `points`, between words where that is possible."""
    width = width_of(text, size)
    if width <= points:
        return [text]
    letters = min(len(text) - 1, int(1.3 * len(text) * points / width) + 1)
    while True:
        rows = textwrap.wrap(text, letters, break_on_hyphens=False)
        if letters == 1 or all(width_of(row, size) <= points for row in rows):
            return rows
        letters -= 1


def shortened(text: str, points: float, size: float = 10, rows: int = 1) -> str:
    """`text` in at most so many rows no wider than `points`, with an ellipsis in its middle if it is longer.

    In the middle, since names that are alike differ at an end.
    """
    left, kept = text, min(len(text), int(1.3 * len(text) * rows * points / width_of(text, size)) + 1)
    while len(found := rows_of(left, points, size)) > rows:
        kept -= 1
        left = f"{text[: (kept + 1) // 2].rstrip()}{ELLIPSIS}{text[len(text) - kept // 2 :].lstrip()}"
    return "\n".join(found)


def shown(model: str, points: float = NAME_POINTS) -> str:
    """A model's name in two rows at most, as titles and legends show it."""
    # matplotlib leaves out of legends what begins with an underscore; a space without width hides it.
    return shortened("\u200b" + model if model.startswith("_") else model, points, rows=2)


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Within it, letters that the default font lacks come from an installed font that has them, if there is one.

    If there is none, a line on standard error says so, once for the whole figure or task.
    """
    default = get_font(findfont(FontProperties())).get_charmap()
    lacking = {letter for text in texts for letter in text if letter.isprintable() and ord(letter) not in default}
    family, wanted = list(matplotlib.rcParams["font.family"]), "".join(sorted(lacking))
    for name, path in sorted({(font.name, font.fname) for font in fontManager.ttflist}) if lacking else ():
        has = {letter for letter in lacking if ord(letter) in _letters_of(path)}
        if has and name != "Last Resort High-Efficiency":  # its glyphs are boxes with the name of the script
            family.append(name)
            lacking -= has
    if lacking:
        warn(
            f"No installed font has {wanted if len(wanted) < 20 else wanted[:20] + ELLIPSIS}: the pictures show boxes "
            "instead. With a font such as Noto Sans (for Chinese, Japanese and Korean: Noto Sans CJK) installed, "
            "--replot draws them with letters."
        )
    with matplotlib.rc_context({"font.family": family}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _letters_of(path: str) -> dict[int, int]:
    """The letters that a font file has, {code point: glyph}; none if matplotlib can't read it."""
    try:
        return get_font(path).get_charmap()
    except (OSError, RuntimeError):  # such as one with coloured bitmaps
        return {}


class PowersOfTen(LogFormatterSciNotation):
    """The labels of a logarithmic axis: the one place where text is mathematics, which the style switches off."""

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        name = self.axis.axis_name
        for ax in self.axis.axes.get_shared_y_axes().get_siblings(self.axis.axes):  # they share their formatters
            axis = getattr(ax, f"{name}axis")
            ticks = axis.get_major_ticks if axis.major.formatter is self else axis.get_minor_ticks
            for tick in ticks(len(values)):
                tick.label1.set_parse_math(True)
        return super().format_ticks(values)


def logarithmic(ax: Axes) -> None:
    """A logarithmic y-axis."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(PowersOfTen())
    ax.yaxis.set_minor_formatter(PowersOfTen())
