"""Everything known of a task from its folder of records, which is read once. Never loads torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from utils.contents import Contents
from utils.contrasts import variants
from utils.experiment import Declared, Task
from utils.findings.overfitting import overfitting_by_looks, overfitting_of
from utils.findings.runs import accuracy_over_seeds, balanced_over_seeds
from utils.findings.verdicts import Verdict, accuracy_verdicts
from utils.records.folder import judged_by_looks, read_runs
from utils.records.record import RunRecord, Runs, share_a_seed
from utils.records.timing import TimingRecord, read_timing
from utils.stats.intervals import Interval
from utils.stats.overfitting import Overfitting


@dataclass(frozen=True)
class Results:
    """What a task's records hold. Pictures and pages are made from this alone.

    `runs` are the finished runs of the task's own experiments. `ablation` are the runs of the ablation and of the two
    variants that it belongs to; empty if the ablation has no run. `diverged` is {model: the seeds with which it
    diverged}. `left_out` has a line for each record that does not count, with the reason. `timing` is the timing pass
    over the models of `runs`, if there is one. `by_looks` says that verdicts are made by looks (`utils.stats.looks`).
    `contents` is what the data hold if they are a folder of images.
    """

    task: Task
    runs: Runs
    ablation: Runs = field(default_factory=dict)
    diverged: Mapping[str, Sequence[int]] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    timing: TimingRecord | None = None
    by_looks: bool = False
    contents: Contents | None = None

    @property
    def balanced(self) -> bool:
        """Whether models are judged on balanced accuracy, since there are far more images of some classes."""
        return self.contents is not None and self.contents.unequal

    @property
    def measure(self) -> str:
        """What models are judged on, in words."""
        return "balanced accuracy" if self.balanced else "test accuracy"

    def level(self, records: Sequence[RunRecord]) -> Interval:
        """The mean over seeds of what models are judged on, with its interval."""
        return balanced_over_seeds(records) if self.balanced else accuracy_over_seeds(records)

    @cached_property
    def accuracy_verdicts(self) -> list[Verdict]:
        """The verdicts on the planned contrasts, by test accuracy, plain or balanced, with the final weights."""
        task = self.task
        return accuracy_verdicts(self.runs, task.contrasts, task.equivalence_margin, self.by_looks, self.balanced)

    @cached_property
    def overfitting(self) -> dict[str, Overfitting]:
        """{model: whether it overfits}, of all models of `runs` and of `ablation`."""
        judge = overfitting_by_looks if self.by_looks else overfitting_of
        return {model: judge(records) for model, records in {**self.ablation, **self.runs}.items()}

    @property
    def confused_pair(self) -> tuple[str, str] | None:
        """The two variants whose confusions are compared, second minus first; None if no seed ran with both."""
        pair = variants(self.task.contrasts)
        return pair if pair and share_a_seed(self.runs, *pair) else None


def read_results(folder: Path, task: Task, declared: Declared, contents: Contents | None = None) -> Results:
    """The results of `task` in a folder of records.

    Raises RecordError if it can't be told whether the folder is judged by looks.
    """
    found = read_runs(folder, task.name, declared)
    runs = {e.name: found.runs[e.name] for e in task.experiments if e.name in found.runs}
    of_ablation = [e.name for e in task.ablation]
    ablation = {}
    if not found.runs.keys().isdisjoint(of_ablation):
        names = (*variants(task.contrasts), *of_ablation)
        ablation = {name: found.runs[name] for name in names if name in found.runs}
    timing = read_timing(folder, {name: declared.hashes[name] for name in runs}, declared.code)
    return Results(task, runs, ablation, found.diverged, found.left_out, timing, judged_by_looks(folder), contents)
