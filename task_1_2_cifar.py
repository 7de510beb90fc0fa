"""Task 1.2: a fully connected net, a plain CNN and a residual CNN without and with regularisation on CIFAR-10.

python task_1_2_cifar.py            # trains on CIFAR-10, writes plots/task_1_2 and the README's results
python task_1_2_cifar.py --ablation # the residual net with each regulariser alone, and with all, as well
python task_1_2_cifar.py --smoke    # the whole pipeline in under a minute on generated images
"""

from dataclasses import replace
from functools import partial

from models import CIFARCNN, FCN, CNNWithResidual
from utils.cli import main
from utils.experiment import Contrast, Experiment, Task, TrainConfig

RECIPE = TrainConfig(epochs=15, batch_size=128, optimizer="sgd", learning_rate=0.01, momentum=0.9)

EXPERIMENTS = [
    Experiment("FCN", FCN, RECIPE),
    Experiment("CIFARCNN", CIFARCNN, RECIPE),
    Experiment("CNNWithResidual", CNNWithResidual, RECIPE),
    Experiment(
        "CNNWithResidual-Regularized", partial(CNNWithResidual, dropout=0.5), replace(RECIPE, weight_decay=0.01)
    ),
]

ABLATION = [
    Experiment("CNNWithResidual-Dropout", partial(CNNWithResidual, dropout=0.5), RECIPE),
    Experiment("CNNWithResidual-WeightDecay", CNNWithResidual, replace(RECIPE, weight_decay=0.01)),
    Experiment("CNNWithResidual-Augmented", CNNWithResidual, replace(RECIPE, augmentation=True)),
    Experiment(
        "CNNWithResidual-AllThree",
        partial(CNNWithResidual, dropout=0.5),
        replace(RECIPE, weight_decay=0.01, augmentation=True),
    ),
]

TASK = Task(
    "task_1_2",
    dataset="cifar10",
    experiments=EXPERIMENTS,
    contrasts=[
        Contrast("FCN", "CIFARCNN"),
        Contrast("CIFARCNN", "CNNWithResidual"),
        Contrast("CNNWithResidual", "CNNWithResidual-Regularized", differs=("dropout", "weight_decay")),
    ],
    equivalence_margin=0.005,
    ablation=ABLATION,
)

if __name__ == "__main__":
    main(TASK)
