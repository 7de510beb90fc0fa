"""A model as it is built: initial weights, shapes without memory, and FLOPs counted by hand."""

from functools import partial

import pytest
import torch

from models import FCN, CNNWithResidual, SimpleCNN
from utils.experiment import Experiment, TrainConfig
from utils.training.model import build_model, flops_per_image, parameter_shapes

CONFIG = TrainConfig(epochs=2, batch_size=64, optimizer="adam", learning_rate=1e-3)


def test_flops_of_a_fully_connected_net_by_hand():
    multiply_adds = 2 * 6 * 10 * 30 + 30 * 20 + 20 * 7
    assert flops_per_image(FCN((2, 6, 10), 7, hidden=(30, 20)), (2, 6, 10)) == 2 * multiply_adds


def test_flops_of_convolutional_nets_by_hand():
    # SimpleCNN on (3, 12, 20): 3x3 convolutions at 12x20 and, pooled, 6x10, then 64 maps of 3x5 to 128 to 7.
    multiply_adds = 12 * 20 * 32 * 3 * 9 + 6 * 10 * 64 * 32 * 9 + 64 * 3 * 5 * 128 + 128 * 7
    assert flops_per_image(SimpleCNN((3, 12, 20), 7), (3, 12, 20)) == 2 * multiply_adds
    # One residual block of stride 2: the stem at 12x20, the block's two convolutions and its shortcut at 6x10.
    multiply_adds = 12 * 20 * 4 * 3 * 9 + 6 * 10 * (4 * 4 * 9 + 4 * 4 * 9 + 4 * 4) + 4 * 7
    net = CNNWithResidual((3, 12, 20), 7, widths=(4,), strides=(2,), blocks_per_stage=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert flops_per_image(net, (3, 12, 20)) == 2 * multiply_adds
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())  # running means too


@pytest.mark.parametrize("model", [FCN, SimpleCNN, partial(CNNWithResidual, widths=(4, 8), strides=(1, 2))])
def test_parameter_shapes_are_those_of_the_model_itself(model):
    net = model(image_shape=(3, 12, 20), num_classes=7)
    expected = {name: tuple(p.shape) for name, p in net.named_parameters()}
    shapes = parameter_shapes(Experiment("any", model, CONFIG), (3, 12, 20), 7)
    assert shapes == expected and list(shapes) == list(expected)


def test_parameter_shapes_take_no_memory_and_no_random_numbers():
    state = torch.get_rng_state()
    shapes = parameter_shapes(Experiment("huge", partial(FCN, hidden=(10**7, 10**7)), CONFIG), (1, 28, 28), 10)
    assert shapes["4.weight"] == (10**7, 10**7)  # 400 TB
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_follow_from_the_seed_alone():
    def weights(seed):
        return build_model(Experiment("any", FCN, CONFIG), (1, 8, 8), 10, seed)[1].weight

    first = weights(3)
    torch.manual_seed(99)
    assert torch.equal(weights(3), first) and not torch.equal(weights(4), first)
