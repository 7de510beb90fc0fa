"""Faster execution changes no answer: gradients against float64, fused optimisers against the plain ones."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

import task_1_1_mnist
import task_1_2_cifar
from utils.training.device import Execution
from utils.training.fit import make_optimizer

CASES = [
    pytest.param(experiment, shape, id=f"{experiment.name}-{name}")
    for name, task, shape in (("mnist", task_1_1_mnist, (1, 28, 28)), ("cifar10", task_1_2_cifar, (3, 32, 32)))
    for experiment in task.EXPERIMENTS
]


def without_dropout(experiment, image_shape):
    torch.manual_seed(0)
    model = experiment.model(image_shape=image_shape, num_classes=10)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradient(model, image_shape, execution=None):
    """All of the model's gradients of one step as one vector; `execution` as in training, or None: in float64."""
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(16, *image_shape, generator=generator), torch.arange(16) % 10
    if execution is None:
        logits = model.double()(images.double())
    else:
        with execution.autocast():
            logits = execution.place(model)(images.to(memory_format=torch.channels_last)).float()
    F.cross_entropy(logits, labels).backward()
    return torch.cat([p.grad.double().flatten() for p in model.parameters()])


@pytest.mark.parametrize("experiment, image_shape", CASES)
def test_gradients_against_float64(experiment, image_shape):
    torch.set_num_threads(1)
    model = without_dropout(experiment, image_shape)
    exact = gradient(deepcopy(model), image_shape)
    fp32 = gradient(deepcopy(model), image_shape, Execution(torch.device("cpu"), "fp32", 1))
    assert (fp32 - exact).norm() <= 1e-2 * exact.norm()
    bf16 = gradient(deepcopy(model), image_shape, Execution(torch.device("cpu"), "bf16", 1))
    assert F.cosine_similarity(bf16, exact, dim=0) >= 0.9
    assert not torch.equal(bf16, fp32)  # else nothing was computed in bf16


@pytest.mark.parametrize("experiment, image_shape", CASES)
def test_the_fused_optimizer_against_the_plain_one(experiment, image_shape):
    weights = []
    for fused in (True, False):
        model = without_dropout(experiment, image_shape)
        execution = Execution(torch.device("cpu"), "fp32", 1)
        optimizer = make_optimizer(execution.place(model), experiment.config)
        assert all(group["fused"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["fused"] = fused
        gradients = torch.Generator().manual_seed(2)
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=gradients))
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (weights[0] - weights[1]).norm() <= 1e-6 * weights[1].norm()
