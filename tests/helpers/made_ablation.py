"""Made-up runs of the ablation of task 1.2."""

from made_records import make_record
from pictures import CIFAR

import task_1_2_cifar

ABLATION = task_1_2_cifar.TASK
ABLATION_NAMES = [e.name for e in (*ABLATION.experiments, *ABLATION.ablation)]


def residual_nets():
    return [*ABLATION.experiments[2:], *ABLATION.ablation]


def ablation_runs(seeds):
    names = [experiment.name for experiment in residual_nets()]
    return {name: [make_record(name, seed, accuracy=0.8, **CIFAR) for seed in range(seeds)] for name in names}
