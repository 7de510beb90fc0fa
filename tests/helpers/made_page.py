"""The page of results of a made-up task, and its tables read back."""

from made_records import make_record

from models import FCN
from utils.experiment import Contrast, Experiment, Task, TrainConfig
from utils.findings.results import Results
from utils.report.page import results_text

MODELS = ("FCN", "SimpleCNN", "CNNWithResidual")
RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)
TASK = Task(
    "task_1_1",
    "mnist",
    [Experiment(model, FCN, RECIPE) for model in MODELS],
    [Contrast(MODELS[0], MODELS[1]), Contrast(MODELS[0], MODELS[2]), Contrast(MODELS[1], MODELS[2])],
    equivalence_margin=0.001,
)


def make_runs(seeds, models=MODELS, **options):
    return {
        model: [make_record(model, seed, accuracy=0.95 + 0.01 * i, **options) for seed in range(seeds)]
        for i, model in enumerate(models)
    }


def text_of(runs, left_out=(), timing=None, diverged=None):
    results = Results(TASK, runs, diverged=diverged or {}, left_out=left_out, timing=timing)
    return results_text(results)


def rows_of(text: str, column: str) -> dict[str, dict[str, str]]:
    """The table that has `column`, as {model: {column: cell}}."""
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| model")]
    header, _, *rows = next(lines for lines in tables if column in lines[0])
    names = [name.strip() for name in header.strip("|").split("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0]: dict(zip(names, row, strict=True)) for row in cells}
