"""What training left in the runs folder, to be used: models with their weights, one net for each seed.

In Python, with the options of the command:

    model = load_trained(TASK, "--images", "my_photos")
    probabilities = model.probabilities(["new1.jpg", "new2.png"])  # (seeds, images, classes)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from utils.checkout import shown
from utils.command.arguments import parse
from utils.command.plan import Plan, make_plan
from utils.command.use import WEIGHTS_IN_WORDS, NoWeights
from utils.data.decode import Target
from utils.data.images import image_set
from utils.data.specs import DataError, DatasetSpec
from utils.data.store import decoded
from utils.experiment import Experiment, Task
from utils.files import visible
from utils.records.folder import latest_data, read_runs
from utils.records.kinds import shown_kind
from utils.records.record import WEIGHT_FILES, RunRecord, Runs
from utils.streams import warn
from utils.training.device import Execution
from utils.training.model import build_model
from utils.training.predict import predict
from utils.training.sources import source_hash
from utils.words import in_a_row


class WeightsError(ValueError):
    """Weights are here, but can't be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model with the weights of each seed, and how it wants its images.

    `records` and `nets`, in evaluation mode, have one entry for each seed. `weights` says which of a run's weights they
    have, one of WEIGHT_FILES. `target` is the form in which images are decoded, the `spec` has their normalisation and
    the names of the classes.
    """

    name: str
    records: tuple[RunRecord, ...]
    weights: str
    nets: tuple[nn.Module, ...]
    spec: DatasetSpec
    target: Target
    execution: Execution

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.spec.class_names

    def probabilities(self, paths: Sequence[Path | str]) -> np.ndarray:
        """Softmax probabilities of image files, float32 of shape (seeds, images, classes).

        Raises DataError, which names the first file that can't be read.
        """
        pixels = []
        for path, result in zip(paths, decoded([Path(path) for path in paths], self.target), strict=True):
            if isinstance(result, DataError):
                raise DataError(f"{path}: {result}")
            pixels.append(result[0])
        return self.probabilities_of(np.stack(pixels))

    def probabilities_of(self, pixels: np.ndarray) -> np.ndarray:
        """The same of decoded images, uint8 (N, H, W) in grey or (N, H, W, 3) in colour."""
        images = image_set(pixels, np.zeros(len(pixels)), self.spec).to(self.execution.device)
        return torch.stack([predict(net, images, self.execution).softmax(1) for net in self.nets]).cpu().numpy()


def load_trained(task: Task, *options: str) -> Trained:
    """The model that the command with these options and --predict takes; of several, the first.

    Raises NoWeights or WeightsError, and what `make_plan` raises. Ends Python, as the command does, if an option is
    wrong.
    """
    plan = make_plan(task, parse(task, [*options, "--predict", "."]))
    runs, _ = runs_to_predict_by(plan)
    name, records = next(iter(runs.items()))
    return load_model(plan, name, records, weights_of(plan, name, records))


def runs_to_predict_by(plan: Plan) -> tuple[Runs, str]:
    """{model: its runs}, of each model that --models names, or of the best one, and why it was chosen, in words.

    The best is that of the highest mean validation accuracy, with weights of the same sort for all: nothing is chosen
    on the test set. Raises NoWeights.
    """
    runs = runs_here(plan)
    if plan.use.named:
        return runs, "named by --models"
    if len(runs) == 1:
        return runs, "the only model with weights here"
    sorts = {weights_of(plan, name, records) for name, records in runs.items()}
    weights = "last" if len(sorts) > 1 else next(iter(sorts))
    accuracy = {name: fmean(val_accuracy(record, weights) for record in records) for name, records in runs.items()}
    best = max(accuracy, key=accuracy.get)
    why = f"the highest mean validation accuracy, {accuracy[best]:.2%}, of the {len(runs)} models with weights here"
    if len(sorts) > 1:
        why += ", compared by their last weights, since not all have averaged ones"
    return {best: runs[best]}, why


def val_accuracy(record: RunRecord, weights: str) -> float:
    """The validation accuracy of a run with these of its weights."""
    if weights == "averaged":
        return record.averaged_val_correct / record.val_total
    return record.curve("val_accuracy")[record.best_epoch - 1 if weights == "best" else -1]


def weights_of(plan: Plan, name: str, records: Sequence[RunRecord]) -> str:
    """Which weights of the model's runs are used: see `Use`. Raises NoWeights if --weights names what isn't there."""
    old = [record.stem for record in records if not record.has_average]
    if plan.use.weights == "averaged" and old:
        raise NoWeights(f"{in_a_row(old)} of an older version: no averaged weights here")
    whole = not old and all(weights_path(plan, name, record, "averaged").exists() for record in records)
    return plan.use.weights or ("averaged" if whole else "last")


def in_use(plan: Plan, model: Trained) -> str:
    """Which weights are used, in words, and why not the averaged ones if nobody asked for others."""
    if model.weights == "averaged":
        return model.records[0].averaged_in_words
    why = "" if plan.use.weights else ", since not every run here has averaged ones"
    return f"{WEIGHTS_IN_WORDS[model.weights]}{why}"


def weights_path(plan: Plan, name: str, record: RunRecord, weights: str) -> Path:
    return plan.cells(record.kind, name) / f"seed{record.seed}" / WEIGHT_FILES[weights]


def runs_here(plan: Plan) -> Runs:
    """{model: its finished runs that count and whose weights are here}, all of one kind.

    That is the kind of --kind, or else the one that the pages show, or else the one with the most such runs. Raises
    NoWeights if there are none, or none of a model that --models names. Beside added models, the task's own may come
    from committed records, which have no weights: those are only named.
    """
    kinds: dict[str, Runs] = {}
    left_out: list[str] = []
    for kind in [path.name for path in visible(plan.runs, "*") if plan.use.kind in ("", path.name)]:
        runs, reasons = runs_of_kind(plan, kind)
        left_out += reasons
        if runs:
            kinds[kind] = runs
    shown_now = shown_kind(plan.output / "records")
    most = max(kinds.values(), key=lambda runs: sum(map(len, runs.values())), default={})
    runs = kinds.get(shown_now, most)
    missing = [experiment.name for experiment in plan.experiments if experiment.name not in runs]
    if missing and (not runs or plan.use.named and not plan.added):
        what = f" of the kind {plan.use.kind}" if plan.use.kind else ""
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise NoWeights(f"{shown(plan.runs)} has no weights{what} of {in_a_row(missing)} by this recipe{why}")
    if missing and (plan.use.named or not plan.use.paths):
        warn(f"without weights here: {', '.join(missing)}")
    return runs


def runs_of_kind(plan: Plan, kind: str) -> tuple[Runs, list[str]]:
    """{model: its finished runs that count and whose weights are here}, and a line for each run that doesn't count."""
    runs: dict[str, list[RunRecord]] = {}
    left_out: list[str] = []
    declared = plan.declared._replace(data=plan.declared.data or latest_data(plan.records_folder(kind)))
    for experiment in plan.experiments:
        found: list[RunRecord] = []
        for weights in visible(plan.cells(kind, experiment.name), f"seed*/{WEIGHT_FILES['last']}"):
            records = read_runs(weights.parent, plan.task.name, declared)
            found += records.runs.get(experiment.name, [])
            left_out += [line for line in records.left_out if not line.startswith("epoch")]  # which are checkpoints
        left_out += [
            f"{record.stem}.json: from an older version, which doesn't name the model's code"
            for record in found
            if not same_code(record, experiment)
        ]
        chosen = [r for r in found if same_code(r, experiment) and (not plan.seeds or r.seed in plan.seeds)]
        if chosen:
            runs[experiment.name] = sorted(chosen, key=lambda record: record.seed)
    return runs, left_out


def same_code(record: RunRecord, experiment: Experiment) -> bool:
    """Whether a record that counts is known to be of the model's code: an older one names only what trained it."""
    environment = record.environment
    return bool(environment.get("model_hash")) or environment.get("source_hash") == source_hash(experiment)


def load_model(plan: Plan, name: str, records: Sequence[RunRecord], weights: str) -> Trained:
    """The model with these `weights` of these runs, on the plan's device. Raises WeightsError."""
    channels, height, width = plan.spec.image_shape
    if height != width:
        raise WeightsError(f"images of {plan.spec.name} are {width} x {height} pixels, and a new image is made square")
    plan.execution.prepare_process()
    (experiment,) = [experiment for experiment in plan.experiments if experiment.name == name]
    nets = []
    for record in records:
        net = build_model(experiment, plan.spec.image_shape, len(plan.spec.class_names), record.seed)
        path = weights_path(plan, name, record, weights)
        try:
            net.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            fault = " ".join(str(error).split())
            raise WeightsError(f"{shown(path)} can't be used ({fault}): delete its folder and train again") from error
        nets.append(plan.execution.place(net).eval())
    target = Target(height, channels, plan.contents.fit if plan.contents else "crop")
    return Trained(
        name=name,
        records=tuple(records),
        weights=weights,
        nets=tuple(nets),
        spec=plan.spec,
        target=target,
        execution=plan.execution,
    )
