"""`--until-decided`: which folders may be judged by looks, and which models get more seeds after a look."""

from collections.abc import Sequence

from utils.checkout import shown
from utils.command.plan import Plan
from utils.experiment import Experiment
from utils.findings.results import Results
from utils.findings.sentences import accuracy_sentence
from utils.findings.verdicts import open_after
from utils.records.record import RecordError, paired
from utils.stats.looks import LOOKS
from utils.words import bullets, plural


def check_looks(plan: Plan, results: Results) -> None:
    """Raise RecordError if a contrast could have been judged before by a fixed number of seeds.

    To choose looks after having seen that verdict would raise the error rate.
    """
    if results.by_looks or plan.drops_older_records:
        return
    for contrast in results.task.contrasts:
        common = len(paired(results.runs.get(contrast.a, ()), results.runs.get(contrast.b, ())))
        if common >= LOOKS[0]:
            raise RecordError(
                f"{shown(plan.output)} has {common} seeds of {contrast.a} and {contrast.b}, a number that was fixed "
                "beforehand: --until-decided needs --fresh there, or another --output-dir"
            )


def going_on(plan: Plan, results: Results, look: int) -> list[Experiment]:
    """The experiments that get more seeds after the look: those of contrasts that it left open, if both are run."""
    names = {experiment.name for experiment in plan.experiments}
    pairs = [{verdict.a, verdict.b} for verdict in open_after(results.accuracy_verdicts, look)]
    left = set().union(*(pair for pair in pairs if pair <= names))
    return [experiment for experiment in plan.experiments if experiment.name in left]


def look_in_words(results: Results, look: int, following: int, experiments: Sequence[Experiment]) -> str:
    """What has been decided, and which `experiments` are trained until there are `following` seeds of them."""
    verdicts = results.accuracy_verdicts
    decided = sum(verdict.decided for verdict in verdicts)
    return (
        f"The look at {look} seeds: {decided} of {plural(len(results.task.contrasts), 'contrast')} decided.\n"
        f"{bullets([accuracy_sentence(verdict) for verdict in verdicts])}\n"
        f"The next look is at {following} seeds of {', '.join(experiment.name for experiment in experiments)}."
    )
