"""Task 1.1: a fully connected net, a plain CNN and a CNN with residual blocks on MNIST.

python task_1_1_mnist.py            # trains on MNIST, writes plots/task_1_1 and the README's results
python task_1_1_mnist.py --smoke    # the whole pipeline in under a minute on scikit-learn's digits
"""

from functools import partial

from models import FCN, CNNWithResidual, SimpleCNN
from utils.cli import main
from utils.experiment import Contrast, Experiment, Task, TrainConfig

RECIPE = TrainConfig(epochs=15, batch_size=64, optimizer="adam", learning_rate=1e-3)

EXPERIMENTS = [
    Experiment("FCN", FCN, RECIPE),
    Experiment("SimpleCNN", SimpleCNN, RECIPE),
    Experiment(
        "CNNWithResidual",
        partial(
            CNNWithResidual,
            widths=(32, 64, 64),
            strides=(1, 2, 1),
            blocks_per_stage=1,
            stem_bias=True,
            pooled_size=4,
        ),
        RECIPE,
    ),
]

TASK = Task(
    "task_1_1",
    dataset="mnist",
    experiments=EXPERIMENTS,
    contrasts=[
        Contrast("FCN", "SimpleCNN"),
        Contrast("FCN", "CNNWithResidual"),
        Contrast("SimpleCNN", "CNNWithResidual"),
    ],
    equivalence_margin=0.001,
)

if __name__ == "__main__":
    main(TASK)
