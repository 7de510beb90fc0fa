"""The results of a task as one page: sentences, tables and pictures in their order. Never loads torch."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from utils.contrasts import architectural, differences
from utils.experiment import Contrast, Experiment, Task
from utils.files import file_name
from utils.findings.depth import depth_verdict, has_flow
from utils.findings.results import Results
from utils.findings.runs import accuracy_over_seeds
from utils.findings.sentences import depth_sentence, secondary_sentence
from utils.records.record import RunRecord, Runs, share_a_seed
from utils.report.conclusions import overfitting_list, paragraphs, sentence_on_seeds, verdict_lists
from utils.report.contents import contents_on_page
from utils.report.made import weights_in_words, what_was_run
from utils.report.short import ACCURACY, COSTS, OVERFITTING, VERDICTS, Sentence, in_short
from utils.report.tables import (
    ablation_table,
    classes_table,
    confused_pairs_table,
    confusion_change_table,
    main_table,
    timing_table,
    training_table,
)
from utils.words import bullets, markdown, percent, picture_link, plain, table_by_column

DATA = "Data"
NOTHING_YET = "No finished run of the current recipes yet."


def results_text(results: Results) -> str:
    """The results of a task in Markdown, ending with a newline. Links expect the pictures in the page's own folder."""
    results = for_markdown(results)
    runs, timing, contents = results.runs, results.timing, results.contents
    if not runs:
        return paragraphs([NOTHING_YET, _left_out(results)])
    what = "Parameters, training time, inference time and accuracy" if timing else "Parameters and accuracy"
    costs = "training time, inference time, parameters" if timing else "parameters"
    first = next(iter(runs.values()))[0]
    sections = {
        "In short": [bullets([linked(sentence) for sentence in in_short(results)])],
        DATA: contents_on_page(contents) if contents else [],
        ACCURACY: [
            what_was_run(runs, markdown(first.data_name)),
            main_table(runs, timing, balanced=bool(contents)),
            sentence_on_seeds(results),
        ],
        VERDICTS: [_contrasts(results)],
        "Learning curves": [
            picture_link("all_models_curves", "Validation loss and accuracy over the epochs of all models"),
            training_table(results),
        ],
        OVERFITTING: _lists(overfitting_list(results)),
        COSTS: [
            picture_link("comparison", f"{what} of each model"),
            picture_link("accuracy_vs_cost", f"Test accuracy against {costs}"),
            timing and picture_link("training_time", "Training time of each model, an epoch and the whole run"),
            timing_table(runs, timing),
        ],
        "Regularisers": [_ablation(results)],
        "Gradients": [_gradients(runs)],
        "Confused classes": [confused_pairs_table(runs), _confusion_difference(results)],
        "Each model": [
            *(_model_details(model, records) for model, records in runs.items()),
            weights_in_words(next(iter(runs.values())), own_images=bool(contents)),
        ],
        "Left out": [_left_out(results)],
    }
    sections = {f"## {title}": list(filter(None, parts)) for title, parts in sections.items()}
    texts = (part for title, parts in sections.items() if parts for part in (title, *parts))
    return paragraphs([f"# Results on {markdown(first.data_name)}", *texts])


def linked(sentence: Sentence, page: str = "") -> str:
    """The sentence with a link to its numbers, which stand on `page`; by default on this one."""
    anchor = re.sub(r"[^\w\s-]", "", sentence.section.lower()).replace(" ", "-")  # as GitHub makes it of a heading
    return f"{sentence.text} ([numbers]({page}#{anchor}))"


def original_protocol_text(results: Results) -> str:
    """The results of a task by the original report's protocol, in Markdown: accuracies alone."""
    results = for_markdown(results)
    if not results.runs:
        return paragraphs([NOTHING_YET, _left_out(results)])
    columns = {
        "model": lambda model, _: model,
        "accuracy of the last epoch": lambda _, records: percent(accuracy_over_seeds(records)),
    }
    return paragraphs(
        [
            what_was_run(results.runs, markdown(next(iter(results.runs.values()))[0].data_name)),
            "All training images were trained on, and the test set was the validation set, as in the original report: "
            "only to check its figures.",
            table_by_column(columns, results.runs.items()),
            _left_out(results),
        ]
    )


def for_markdown(results: Results) -> Results:
    """The same results with every model named as Markdown needs it; the records keep the real names, for files."""

    def renamed(by_model: Mapping) -> dict:
        return {markdown(model): value for model, value in by_model.items()}

    def escaped(experiments: Sequence[Experiment]) -> list[Experiment]:
        return [replace(experiment, name=markdown(experiment.name)) for experiment in experiments]

    task, timing = results.task, results.timing
    contrasts = [replace(contrast, a=markdown(contrast.a), b=markdown(contrast.b)) for contrast in task.contrasts]
    return replace(
        results,
        task=replace(task, experiments=escaped(task.experiments), contrasts=contrasts, ablation=escaped(task.ablation)),
        runs=renamed(results.runs),
        ablation=renamed(results.ablation),
        diverged=renamed(results.diverged),
        left_out=list(map(markdown, results.left_out)),
        timing=timing and replace(timing, models=renamed(timing.models)),
    )


def _lists(parts: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{title}:\n\n{bullets(lines)}" for title, lines in parts.items()]


def _contrasts(results: Results) -> str:
    """The verdicts with their picture, the intervals over test images, and what the experiments differ in."""
    task, runs = results.task, results.runs
    compared = [contrast for contrast in task.contrasts if share_a_seed(runs, contrast.a, contrast.b)]
    parts = verdict_lists(results)
    if compared:
        parts[
            f"Secondary: would these trained models differ {'in plain accuracy ' * results.balanced}on new test images "
            "too? (95% intervals over test images; nothing is said of other seeds)"
        ] = [secondary_sentence(runs, verdict) for verdict in results.accuracy_verdicts]
        parts["What the contrasted experiments differ in, besides the class of the model"] = [
            _recipes_in_words(task, contrast) for contrast in compared
        ]
    lists = _lists(parts)
    picture = picture_link("contrasts", f"Planned differences of {results.measure} with their intervals against zero")
    return "\n\n".join([*lists[:1], *([picture] if compared else []), *lists[1:]])


def _recipes_in_words(task: Task, contrast: Contrast) -> str:
    experiments = {experiment.name: experiment for experiment in task.experiments}
    found = differences(experiments[contrast.a], experiments[contrast.b])
    text = f"{contrast.a} and {contrast.b}: {_pairs_in_words(found) or 'nothing, one recipe for both'}"
    built_in = architectural(experiments[contrast.a], experiments[contrast.b])
    return f"{text}; of the options that both classes have: {_pairs_in_words(built_in)}" if built_in else text


def _pairs_in_words(values: Mapping[str, tuple]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {plain(a)} and {plain(b)}" for name, (a, b) in values.items())


def _ablation(results: Results) -> str:
    if not results.ablation:
        return ""
    picture = picture_link("regularisation_ablation", "Test accuracy and gap between the losses by regulariser")
    return (
        "Which regulariser does it? Intervals, where there are seeds enough, at 95% and unadjusted; no verdicts but on "
        f"the planned contrast above; losses are those of the last epoch:\n\n{ablation_table(results)}\n\n{picture}"
    )


def _gradients(runs: Runs) -> str:
    flow = {model: depth_verdict(records) for model, records in runs.items() if any(map(has_flow, records))}
    if not flow:
        return ""
    lines = [f"{model}: {depth_sentence(verdict)}" for model, verdict in flow.items()]
    title = "Gradients over depth in the first epoch (vanishing, exploding, neither, or not decided; 95% intervals)"
    picture = picture_link("gradient_by_depth", "Gradient norm of each layer against its depth, model by model")
    return f"{title}:\n\n{bullets(lines)}\n\n{picture}"


def _confusion_difference(results: Results) -> str:
    if results.confused_pair is None:
        return ""
    a, b = results.confused_pair
    picture = picture_link("confusion_difference", f"Confusion of {b} minus that of {a} by class")
    return f"{confusion_change_table(results.runs, a, b)}\n\n{picture}"


def _model_details(model: str, records: Sequence[RunRecord]) -> str:
    files = file_name(records[0].model)
    images = [
        picture_link(f"{files}_curves", f"Learning curves of {model}: loss and accuracy over the epochs"),
        picture_link(f"{files}_confusion_matrix", f"Confusion matrix of {model} on the test set"),
        picture_link(f"{files}_mistakes", f"The most confident mistakes of {model} on the test set"),
    ]
    if any(map(has_flow, records)):
        images += [
            picture_link(f"{files}_gradient_flow", f"Gradient norms of {model}'s layers over training"),
            picture_link(f"{files}_update_ratio", f"Update ratios of {model}'s layers over training"),
        ]
    # Within the tag there is no Markdown, but GitHub sees mathematics there too.
    name = html.escape(records[0].model, quote=False).replace("$", "&#36;")
    inside = "\n\n".join(filter(None, [*images, classes_table(records)]))
    return (
        f"<details><summary>{name}: curves, confusion matrix, mistakes, gradients, each class</summary>\n\n{inside}"
        "\n\n</details>"
    )


def _left_out(results: Results) -> str:
    return "Left out of these results:\n\n" + bullets(results.left_out) if results.left_out else ""
