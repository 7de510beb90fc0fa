"""What the README shows of a task: blocks of text by name. Never loads torch."""

import numpy as np

from utils.findings.results import Results
from utils.findings.runs import accuracy_over_seeds
from utils.report.page import NOTHING_YET, for_markdown, linked
from utils.report.short import in_short
from utils.words import bullets, percent, table_by_column

SENTENCES_SHOWN = 3


def readme_blocks(results: Results) -> dict[str, str]:
    """The most important sentences, and apart from them a table and a picture.

    Nothing for the original protocol, which the README doesn't show.
    """
    name, results = results.task.name, for_markdown(results)
    if results.task.protocol == "original":
        return {}
    if not results.runs:
        return {name: NOTHING_YET, f"{name}_numbers": NOTHING_YET}
    sentences = in_short(results)[:SENTENCES_SHOWN]
    picture = "![Test accuracy of each model against what it costs](accuracy_vs_cost.png)"
    return {
        name: bullets([linked(sentence, "RESULTS.md") for sentence in sentences]),
        f"{name}_numbers": f"{_main_figures(results)}\n\n{picture}",
    }


def _main_figures(results: Results) -> str:
    """A table of accuracy, parameters and, if it was measured, training time."""
    timing = results.timing
    columns = {
        "model": lambda model, _: model,
        "seeds": lambda _, records: str(len(records)),
        "test accuracy (95% interval)": lambda _, records: percent(accuracy_over_seeds(records)),
        "parameters": lambda _, records: f"{records[0].parameters:,}",
    }
    if timing:
        columns["training, seconds an epoch"] = lambda model, _: (
            f"{np.median(timing.models[model]['train_epoch_seconds']):.1f}"
        )
    return table_by_column(columns, results.runs.items())
