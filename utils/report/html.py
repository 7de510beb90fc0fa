"""The results of a task as one HTML file that needs no network: report.html. Never loads torch.

The text is that of the other pages. `report.html.jinja` holds the page's parts in their order, `report.css` how they
look, `report.js` what can be switched, sorted and clicked. Jinja escapes all that comes from records.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utils.findings.depth import depth_verdict, has_flow
from utils.findings.mistakes import Predictions, images_to_show, predictions_of
from utils.findings.results import Results
from utils.findings.sentences import depth_sentence, timed_on
from utils.records.record import RunRecord
from utils.records.timing import TimingRecord
from utils.report.atlas import COLUMNS, atlas_of
from utils.report.conclusions import overfitting_list, sentence_on_seeds, verdict_lists
from utils.report.definitions import DEFINITIONS, MORE_DEFINITIONS
from utils.report.html_parts import curve_tables, differences, environments, flow_table, matrix_data, mistakes, recipes
from utils.report.made import what_was_run
from utils.report.short import ACCURACY, COSTS, OVERFITTING, VERDICTS, in_short
from utils.report.tables import class_scores, doubts_on_times, main_columns
from utils.words import plural

FOLDER = Path(__file__).parent
MOST_BYTES = 3_900_000  # of the page with its images
# {section of RESULTS.md: where this page has its numbers}
ANCHORS = {ACCURACY: "models", COSTS: "models", VERDICTS: "verdicts", OVERFITTING: "curves"}


@dataclass(frozen=True)
class Setting:
    """What a page needs beside the results: the command that repeats them, sentences on how the data were checked, and
    the test images, (N, H, W) or (N, H, W, C) uint8, or None if they aren't at hand."""

    command: str
    data_checks: Sequence[str] = ()
    images: np.ndarray | None = None


def report_page(
    results: Results,
    svgs: Mapping[str, str],
    looks: Mapping[str, tuple[int, str]],
    setting: Setting,
) -> bytes:
    """The whole page; `svgs` and `looks` are those of `utils.figures.interactive`."""
    made = predictions_of(results.runs) if results.runs else None
    values = _values(results, svgs, looks, setting, made)
    page = _filled(values, "")
    if made and setting.images is not None:
        atlas = atlas_of(setting.images, images_to_show(made), MOST_BYTES - len(page))
        values["data"] |= {"images": atlas.images, "tile": atlas.tile, "columns": COLUMNS}
        page = _filled(values, atlas.url)
    return page


def _filled(values: Mapping, atlas: str) -> bytes:
    css, js = ((FOLDER / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src '{_digest(css)}'; script-src '{_digest(js)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    text = _template().render(**values, atlas=atlas, css=Markup(css), js=Markup(js), policy=Markup(policy))
    return text.encode()


def _digest(text: str) -> str:
    """What a Content-Security-Policy allows an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _template():
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja")


def _values(
    results: Results,
    svgs: Mapping[str, str],
    looks: Mapping[str, tuple[int, str]],
    setting: Setting,
    made: Predictions | None,
) -> dict:
    """What the template is filled with."""
    runs = results.runs
    charts = {name: Markup(svg) for name, svg in svgs.items()}  # of our own making, and escaped there
    common = {
        "charts": charts,
        "runs": runs,
        "looks": looks,
        "whole": made is not None,
        "title": f"Results on {_data_name(results)}",
        "short": [(f"{_plain(s.text)}.", ANCHORS[s.section]) for s in in_short(results)],
        "curves": curve_tables(runs),
        "left_out": results.left_out,
        "data": {},
    }
    if made is None:
        return common
    verdicts, *others = verdict_lists(results).items() or [("", [])]
    count = len([name for name in charts if name.startswith("verdict-")][:-1])  # without the axis
    rows = zip(results.accuracy_verdicts[:count], verdicts[1], strict=False)
    drawn = [model for number, model in enumerate(runs) if f"flow-{number}" in charts]
    flow = {model: list(filter(has_flow, runs[model])) for model in drawn}
    return common | {
        "about": what_was_run(runs, _data_name(results)),
        "seeds_note": _plain(sentence_on_seeds(results)),
        "costs": [name for name in charts if name.startswith("cost-")],
        "main": _columns(results),
        "times_note": _on_times(results.timing) if results.timing else "",
        "onsets": overfitting_list(results),
        "verdicts_title": verdicts[0],
        "verdicts": [(f"{verdict.b} − {verdict.a}", verdict.in_short, sentence) for verdict, sentence in rows],
        "differences": differences(results.accuracy_verdicts[:count]),
        "verdicts_without_row": verdicts[1][count:],
        "other_verdicts": others,
        "definitions": [DEFINITIONS, MORE_DEFINITIONS],
        "flow": {model: (depth_sentence(depth_verdict(r)), flow_table(r)) for model, r in flow.items()},
        "scores": {model: found for model, records in runs.items() if (found := class_scores(records))},
        "class_names": _first(results).class_names,
        "mistakes": mistakes(made, _first(results).class_names),
        "recipes": recipes(runs),
        "environments": environments(runs),
        "checks": _checks(results, setting),
        "command": setting.command,
        "has_images": setting.images is not None,
        "data": matrix_data(runs, made),
    }


def _plain(text: str) -> str:
    """A sentence without Markdown's marks around options."""
    return re.sub(r"`(--[^`]+)`", r"\1", text)


def _on_times(timing: TimingRecord) -> str:
    doubts = doubts_on_times(timing).replace("**", "")
    return f"Times are medians, on one machine, in one session ({timed_on(timing)}).{doubts}"


def _first(results: Results) -> RunRecord:
    return next(iter(results.runs.values()))[0]


def _data_name(results: Results) -> str:
    return _first(results).data_name if results.runs else results.task.dataset


def _columns(results: Results) -> dict[str, list[str]]:
    """{heading: the text of each model} of the main table; the model's name stands apart."""
    columns = main_columns(results.timing, balanced=results.contents is not None)
    del columns["model"]
    columns = {"seeds": lambda _, records: str(len(records))} | columns
    return {name: [cell(*row) for row in results.runs.items()] for name, cell in columns.items()}


def _checks(results: Results, setting: Setting) -> list[str]:
    first = _first(results)
    channels, height, width = first.image_shape
    digests = {record.data_sha256 for records in results.runs.values() for record in records} - {""}
    found = [
        f"{first.test_total:,} test images in {plural(len(first.class_names), 'class').replace('classs', 'classes')}, "
        f"{height} x {width} pixels, {'grey' if channels == 1 else 'colour'}; all models were tested on the same ones",
        *setting.data_checks,
    ]
    if digests:
        found.append(f"SHA-256 of all that a result depends on in the data: {', '.join(sorted(digests))}")
    return found
