"""report.html: written where the other pages are, with the test images if they are at hand."""

import shlex
import sys
from pathlib import Path

import numpy as np

from utils.command.plan import Plan
from utils.data.at_hand import test_set_at_hand
from utils.figures.interactive import draw_charts
from utils.files import write_atomically
from utils.findings.mistakes import labels_of
from utils.findings.results import Results
from utils.report.contents import contents_in_words
from utils.report.html import Setting, report_page

NAME = "report.html"


def write_report(plan: Plan, results: Results, folder: Path) -> None:
    """Draw the charts and write the page into `folder`. Raises OSError."""
    svgs, looks = draw_charts(results)
    setting = Setting(command_in_words(plan, results), data_checks(plan), images_of(plan, results))
    write_atomically(folder / NAME, report_page(results, svgs, looks, setting))


def command_in_words(plan: Plan, results: Results) -> str:
    """The command that makes these results again, whatever the command was that wrote the page."""
    words = ["python", Path(sys.argv[0]).name, *plan.recipe_words]
    if results.runs:
        seeds = sorted({record.seed for records in results.runs.values() for record in records})
        if results.by_looks:
            words.append("--until-decided")
        elif seeds == list(range(len(seeds))):
            words += ["--num-seeds", str(len(seeds))]
        else:
            words += ["--seeds", *map(str, seeds)]
        device, _, precision = next(iter(results.runs.values()))[0].kind.rpartition("-")
        words += ["--device", device, "--precision", precision]
    return shlex.join(words)


def data_checks(plan: Plan) -> list[str]:
    """Sentences on what is known of the data."""
    if plan.contents:
        return contents_in_words(plan.contents)
    if not plan.spec.pinned:
        return [f"The arrays of {plan.spec.name} are checked for their shapes; no checksum is declared"]
    shapes = {name: " x ".join(f"{size:,}" for size in array.shape) for name, array in plan.spec.arrays.items()}
    return [
        f"{name.replace('_', ' ')}: {shapes[name]}, checked against the SHA-256 {array.sha256}"
        for name, array in plan.spec.arrays.items()
    ]


def images_of(plan: Plan, results: Results) -> np.ndarray | None:
    """The test images, if they are at hand and those that the records were made on."""
    found = test_set_at_hand(plan.spec, plan.data_dir) if results.runs else None
    if found is None or not np.array_equal(found[1], labels_of(results.runs)):
        return None
    return found[0]
