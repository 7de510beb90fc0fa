"""Gradient flow as it is read in training: the gradients themselves, and no hook stays."""

import numpy as np
import pytest
import torch

from models import FCN, SimpleCNN
from utils.experiment import TrainConfig
from utils.training.device import Execution
from utils.training.fit import make_optimizer, make_schedule, train_one_epoch
from utils.training.gradients import GradientFlow

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_gradient_flow_equals_the_gradients_themselves(data, optimizer):
    config = TrainConfig(1, 64, optimizer, 1e-2)
    net = SimpleCNN(image_shape=data.image_shape, num_classes=10)
    chosen = make_optimizer(net, config)
    schedule = make_schedule(chosen, config, steps_an_epoch=2)
    weights = [module.weight for module in net.modules() if hasattr(module, "weight")]
    expected, before = [], []

    def keep(*_):
        expected.append([w.grad.norm().item() for w in weights])
        before.append([w.detach().clone() for w in weights])

    hook = chosen.register_step_pre_hook(keep)
    with GradientFlow(net, chosen, steps=2) as flow:
        train_one_epoch(net, chosen, data.train.batches(64, torch.arange(64)), EXECUTION, config, schedule)
        after = [w.detach().clone() for w in weights]
        another = data.train.batches(64, torch.arange(64, 128))
        train_one_epoch(net, chosen, another, EXECUTION, config, schedule)
        arrays = flow.read()
    hook.remove()
    np.testing.assert_allclose(arrays["norms"], expected, rtol=1e-5)
    ratios = [((b - a).norm() / a.norm()).item() for a, b in zip(before[0], after, strict=True)]
    np.testing.assert_allclose(arrays["update_ratios"], [ratios], rtol=1e-4)
    assert arrays["finite"].all()


def test_gradient_flow_leaves_no_hook_behind(data):
    net = FCN(image_shape=data.image_shape, num_classes=10)
    optimizer = make_optimizer(net, CONFIG)
    with pytest.raises(RuntimeError, match="inside"), GradientFlow(net, optimizer, steps=1) as flow:
        raise RuntimeError("inside")
    batches, schedule = data.train.batches(64, torch.arange(64)), make_schedule(optimizer, CONFIG, steps_an_epoch=1)
    train_one_epoch(net, optimizer, batches, EXECUTION, CONFIG, schedule)
    assert flow.step == 0 and not flow.norms.any()
