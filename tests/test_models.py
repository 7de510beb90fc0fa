"""Parameter counts are pinned, and each network can learn."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from models import CIFARCNN, FCN, CNNWithResidual, SimpleCNN

MNIST_RESIDUAL = partial(
    CNNWithResidual, widths=(32, 64, 64), strides=(1, 2, 1), blocks_per_stage=1, stem_bias=True, pooled_size=4
)
MODELS = [
    pytest.param(FCN, (1, 28, 28), 567_434, id="FCN-MNIST"),
    pytest.param(FCN, (3, 32, 32), 1_738_890, id="FCN-CIFAR10"),
    pytest.param(SimpleCNN, (1, 28, 28), 421_642, id="SimpleCNN"),
    pytest.param(MNIST_RESIDUAL, (1, 28, 28), 160_906, id="CNNWithResidual-MNIST"),
    pytest.param(CIFARCNN, (3, 32, 32), 620_362, id="CIFARCNN"),
    pytest.param(CNNWithResidual, (3, 32, 32), 2_797_610, id="CNNWithResidual-CIFAR10"),
    pytest.param(partial(CNNWithResidual, dropout=0.5), (3, 32, 32), 2_797_610, id="CNNWithResidual-Regularized"),
]


@pytest.mark.parametrize("model, image_shape, parameters", MODELS)
def test_parameter_count(model, image_shape, parameters):
    net = model(image_shape=image_shape, num_classes=10)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.slow  # the residual nets take long
@pytest.mark.parametrize("model, image_shape, parameters", MODELS)
def test_each_overfits_one_batch(model, image_shape, parameters):
    torch.manual_seed(1)
    net = model(image_shape=image_shape, num_classes=10)
    images, labels = torch.randn(20, *image_shape), torch.arange(20) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    assert F.cross_entropy(net.eval()(images), labels) < 0.05


@pytest.mark.parametrize("model, image_shape, parameters", MODELS)
def test_logits_follow_image_shape_and_classes(model, image_shape, parameters):
    channels, height, width = image_shape
    net = model(image_shape=(channels + 1, height + 4, width + 8), num_classes=7).eval()
    assert net(torch.randn(2, channels + 1, height + 4, width + 8)).shape == (2, 7)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_pooling_before_relu_changes_no_bit(precision):
    torch.manual_seed(0)
    ours = SimpleCNN((3, 17, 20), 10).features[:3]
    as_named = torch.nn.Sequential(ours[0], torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    results = []
    for features in (ours, as_named):
        ours.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            maps = features(torch.randn(4, 3, 17, 20, generator=torch.Generator().manual_seed(1)))
        (maps.float() * torch.linspace(-1, 1, maps.numel()).view_as(maps)).sum().backward()
        results.append((maps.detach(), ours[0].weight.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_too_small_an_image_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"CIFARCNN .* at least \(C, 8, 8\), not \(1, 7, 9\)"):
        CIFARCNN((1, 7, 9), 10)


def test_a_block_adds_its_input():
    """With the last BN's scale at zero, the residual branch vanishes and the block is a ReLU."""
    net = CNNWithResidual((3, 32, 32), 10).eval()
    block = net.blocks[0]
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 32, 5, 6)
    torch.testing.assert_close(block(x), F.relu(x))
