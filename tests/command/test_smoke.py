"""`--smoke`: small, but it learns something."""

from dataclasses import replace

import pytest
import torch

import task_1_2_cifar
from utils.command.arguments import SMOKE_RECIPE
from utils.data.images import load_splits
from utils.data.specs import SHAPES
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.model import build_model
from utils.training.predict import loss_and_correct, predict


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_residual_net_learns_more_than_half_of_the_generated_shapes(tmp_path, seed):
    experiment = task_1_2_cifar.EXPERIMENTS[2]
    config = replace(experiment.config, **SMOKE_RECIPE)
    data, execution = load_splits(SHAPES, tmp_path, limit=config.limit), Execution(torch.device("cpu"), "fp32", 1)
    model = execution.place(build_model(experiment, data.image_shape, data.num_classes, seed))
    fit(model, config, seed, data, execution)
    _, correct = loss_and_correct(predict(model, data.test, execution), data.test.labels)
    assert correct / len(data.test) > 0.5
