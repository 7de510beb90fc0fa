"""No change of code may orphan the records in plots/: their recipes and the code of their models are pinned here."""

import pytest
from checkout_folder import CHECKOUT

import task_1_1_mnist
import task_1_2_cifar
from utils.command.plan import hashes_of
from utils.data.specs import DATASETS, data_sha256
from utils.experiment import Declared, under_original_protocol
from utils.records.folder import read_runs
from utils.training.sources import model_hash

# {task: {model: (config hash, model hash)}}
HASHES = {
    "task_1_1": {
        "FCN": ("888e1d09a99c", "faea3292fd87"),
        "SimpleCNN": ("c43e9a59c44b", "28efbabd6f50"),
        "CNNWithResidual": ("79d16a06f785", "2287bc4875d0"),
    },
    "task_1_2": {
        "FCN": ("2c62b4e85ea4", "faea3292fd87"),
        "CIFARCNN": ("1d0cc1bcf35b", "aec232c1790f"),
        "CNNWithResidual": ("1ff3a8020e71", "2287bc4875d0"),
        "CNNWithResidual-Regularized": ("b469afb0d80c", "2287bc4875d0"),
        "CNNWithResidual-Dropout": ("ab1a891993dd", "2287bc4875d0"),
        "CNNWithResidual-WeightDecay": ("903e0a16585f", "2287bc4875d0"),
        "CNNWithResidual-Augmented": ("1a9e42ca4e40", "2287bc4875d0"),
        "CNNWithResidual-AllThree": ("786aaa2742f4", "2287bc4875d0"),
    },
    "original_protocol/task_1_1": {
        "FCN": ("8f9cc2fceb6e", "faea3292fd87"),
        "SimpleCNN": ("9879f2aa4204", "28efbabd6f50"),
        "CNNWithResidual": ("35678f36c28d", "2287bc4875d0"),
    },
    "original_protocol/task_1_2": {
        "FCN": ("a91318ce2716", "faea3292fd87"),
        "CIFARCNN": ("344ed8e9bbcb", "aec232c1790f"),
    },
}
TASKS = {task.name: task for task in (task_1_1_mnist.TASK, task_1_2_cifar.TASK)}
TASKS |= {task.name: task for task in map(under_original_protocol, [*TASKS.values()])}


def declared(name: str) -> dict[str, tuple[str, str]]:
    """{model: (config hash, model hash)} of all experiments of a task, as the code computes them now."""
    task = TASKS[name]
    experiments = [*task.experiments, *task.ablation]
    hashes = hashes_of(experiments, DATASETS[task.dataset])
    return {experiment.name: (hashes[experiment.name], model_hash(experiment)) for experiment in experiments}


@pytest.mark.parametrize("name", HASHES)
def test_recipes_and_models_have_the_hashes_of_the_committed_records(name):
    assert HASHES[name].items() <= declared(name).items()
    if not name.startswith("original_protocol/"):  # by which not all models have been trained
        assert HASHES[name] == declared(name)


@pytest.mark.parametrize("name", HASHES)
def test_every_committed_record_counts(name):
    """With the pinned hashes, not those of the code; and each is of the data that the code pins."""
    (folder,) = (CHECKOUT / "plots" / name / "records").glob("*/")
    hashes, code = ({model: pair[k] for model, pair in HASHES[name].items()} for k in (0, 1))
    data = data_sha256(DATASETS[TASKS[name].dataset], {})
    runs, diverged, left_out = read_runs(folder, name, Declared(hashes, code, data))
    assert runs.keys() == hashes.keys() and not diverged and not left_out
    assert all(record.environment["model_hash"] for records in runs.values() for record in records)
