"""What all figures share: style, a canvas as wide as the README, legends, empty panels, saving. Never loads torch."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.figures.lettering import rows_of
from utils.files import write_atomically
from utils.words import plural

WIDTH = 9.0  # inches: 10-point text is readable when a README shows the picture 900 pixels wide
NOTE_LETTERS = 115  # letters that fit on a line of 9-point text
ROW = 0.21  # inches that a row of text takes
SEEDS_SHOWN = 50  # one by one, at most: of more, nobody could see any
ROOM_FOR_ROWS = 3  # of a legend; with more the figure grows
TITLE_LETTERS = 85  # letters that fit on a line of a figure's title
STYLE = {
    "figure.dpi": 150,
    "font.size": 10,
    "text.parse_math": False,  # a model may be called "$5 to $6"
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 3.0,  # shows the line style beside the marker
    "figure.constrained_layout.w_pad": 0.1,  # the two pads are in inches, the two spaces are fractions of a panel
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.wspace": 0.04,
    "figure.constrained_layout.hspace": 0.04,
}
# Colours that colour-blind people can tell apart: those of Okabe and Ito ("Color Universal Design", 2008) without black
# and yellow, and two darker ones. In simulations of protanopia, deuteranopia and tritanopia, any two of the first four
# differ by at least 17 (CIE76). Line styles and markers differ too, for prints without colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#7A1F5C", "#56B4E9", "#E69F00", "#CC79A7", "#8C8C3A")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class LineStyle:
    """How one curve or model looks, the same in every figure."""

    color: str
    linestyle: str | tuple
    marker: str


Styles = Mapping[str, LineStyle]


def model_styles(declared: Sequence[str]) -> dict[str, LineStyle]:
    """{model: its style}, by its position in the declared order. It does not depend on which models have run."""
    return {
        model: LineStyle(
            COLORS[i % len(COLORS)],
            LINE_STYLES[i % len(LINE_STYLES)],
            MARKERS[(i + i // len(COLORS)) % len(MARKERS)],  # where colours repeat, markers differ
        )
        for i, model in enumerate(declared)
    }


def seed_count(counts: Sequence[int]) -> str:
    """The numbers of seeds of several models in words: "1 seed", "6 seeds" or "1 to 6 seeds"."""
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low < high else plural(low, "seed")


def seeds_shown(count: int) -> np.ndarray:
    """Which of `count` seeds are drawn one by one, as indices: all, or SEEDS_SHOWN in equal distances."""
    return np.linspace(0, count - 1, min(count, SEEDS_SHOWN)).round().astype(int)


def each_seed_in_words(most: int) -> str:
    """Which seeds are drawn one by one, if the model that has most has so many: "each seed" or "each of 50 seeds"."""
    return "each seed" if most <= SEEDS_SHOWN else f"each of {SEEDS_SHOWN} seeds"


def signed(value: float, digits: int) -> str:
    """For example "+1.2" or "−0.3"; a number that rounds to 0 has no sign."""
    text = f"{value:+z.{digits}f}"
    return text.replace("-", "−") if text.strip("+0.") else text[1:]


def labelled_lines(ax: Axes) -> list[Artist]:
    """The lines for a legend: all except those with matplotlib's automatic labels, which begin with "_"."""
    return [line for line in ax.get_lines() if not line.get_label().startswith("_")]


def whole_numbers(ax: Axes, first: int, last: int) -> None:
    """Ticks of the x-axis at whole numbers, also where there is a single one."""
    if first == last:
        ax.set_xticks([first])
        ax.set_xlim(first - 0.5, first + 0.5)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def new_figure(height: float, title: str) -> Figure:
    """A figure as wide as the README. It needs no display and does not use pyplot, so no global state is changed.

    It grows with the rows that a long title needs.
    """
    rows = [row for line in title.split("\n") for row in rows_of(line, 0.99 * 72 * WIDTH, 12)]
    figure = Figure(figsize=(WIDTH, height + ROW * (len(rows) - 1 - title.count("\n"))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(rows), fontsize=12)
    return figure


def legend_below(figure: Figure, handles: Sequence[Artist], note: str = "") -> None:
    """One legend for all panels, below them, in as few rows as the width allows; `note` is printed above it."""
    for rows in range(1, len(handles) + 1):
        columns = math.ceil(len(handles) / rows)
        legend = figure.legend(handles=handles, title=note, title_fontsize=9, ncols=columns, loc="outside lower center")
        if rows == len(handles) or legend.get_window_extent().width < figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + ROW * max(0, rows - ROOM_FOR_ROWS))
    legend.get_title().set_multialignment("center")


def empty_panel(ax: Axes, why: str) -> Axes:
    """A panel without data that says why."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color="#666666")
    ax.tick_params(length=0, labelbottom=False)
    ax.grid(False)
    return ax


def save(figure: Figure, path: Path) -> Path:
    """Write the figure atomically as a PNG; raises OSError."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", metadata={"Software": None}
    )  # matplotlib would write its version there, and with each version the bytes would change
    write_atomically(path, buffer.getvalue())
    return path
