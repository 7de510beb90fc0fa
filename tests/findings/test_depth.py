"""The verdict over depth, with controls that are really trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import flow_arrays, make_record
from scipy import stats
from torch import nn
from torch.nn import functional as F

from models import CNNWithResidual
from utils.findings.depth import depth_verdict, slope_over_depth
from utils.records.flow import thin
from utils.training.gradients import GradientFlow

STEPS, BATCH_SIZE = 8, 32


def test_slope_over_depth():
    norms = np.random.default_rng(0).lognormal(size=7)
    assert slope_over_depth(norms) == pytest.approx(stats.linregress(range(7), np.log(norms)).slope)
    assert slope_over_depth(10.0 ** np.arange(5)) == pytest.approx(np.log(10))
    for undefined in ([1.0], [1.0, 0.0, 2.0], [1.0, np.inf], [np.nan, 1.0]):
        assert np.isnan(slope_over_depth(undefined))


def deep_mlp(activation: type[nn.Module], inputs: int, width: int = 64) -> nn.Sequential:
    """Twenty linear layers."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, width), activation()]
    for _ in range(18):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def sigmoid_mlp() -> nn.Module:
    return deep_mlp(nn.Sigmoid, 784)


def tanh_mlp_of_large_weights() -> nn.Module:
    model = deep_mlp(nn.Tanh, 784)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=4 / module.in_features**0.5)
    return model


def residual_net() -> nn.Module:
    return CNNWithResidual((1, 28, 28), 10, widths=(16, 32, 32), strides=(2, 2, 1))


def trained_record(build, seed: int):
    """A record with the gradient flow of one short epoch of SGD on random images."""
    torch.manual_seed(seed)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(STEPS, BATCH_SIZE, 1, 28, 28), torch.randint(10, (STEPS, BATCH_SIZE))
    with GradientFlow(model, optimizer, STEPS) as flow:
        for x, y in zip(images, labels, strict=True):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        read = flow.read()
    arrays = thin(read["norms"], read["update_ratios"], flow.weight_names, epochs=1)
    return replace(make_record(seed=seed), arrays=arrays)


@pytest.mark.parametrize(
    ("build", "word"),
    [(sigmoid_mlp, "vanishing"), (tanh_mlp_of_large_weights, "exploding"), (residual_net, "neither")],
)
def test_controls(build, word):
    records = [trained_record(build, seed) for seed in range(3)]
    verdict = depth_verdict(records)
    assert (verdict.word, verdict.n) == (word, 3)
    logs = np.log([record.arrays["flow_first_epoch_ratio"] for record in records])
    low, high = np.exp(stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs)))
    assert [verdict.ratio.low, verdict.ratio.high] == pytest.approx([low, high])
    assert verdict.ratio.estimate == pytest.approx(stats.gmean(np.exp(logs)))
    assert depth_verdict(records[:2]).word == "too few seeds"


def flowing_record(seed: int, first_over_last: float, epochs: int = 2, fall: float = 1.0):
    """Four layers whose log norms are linear over depth, noisy; over the run all fall by the factor `fall`."""
    random = np.random.default_rng([9, seed])
    over_depth = first_over_last ** np.linspace(1, 0, 4)
    over_time = fall ** -np.linspace(0, 1, 50 * epochs)[:, None]
    norms = over_time * over_depth * random.lognormal(0, 0.1, (50 * epochs, 4))
    names = [f"{i}.weight" for i in range(4)]
    return replace(make_record(seed=seed), arrays=thin(norms, norms, names, epochs))


def verdict_of(ratios, **options) -> str:
    return depth_verdict([flowing_record(seed, ratio, **options) for seed, ratio in enumerate(ratios)]).word


def test_norms_that_fall_at_convergence_are_no_vanishing_gradient():
    assert verdict_of([1, 1.1, 0.9], epochs=15, fall=1000) == "neither"


def test_only_the_interval_over_seeds_decides():
    assert verdict_of([1e-4, 1e-4, 1e-4]) == "vanishing"
    assert verdict_of([1e4, 1e4, 1e4]) == "exploding"
    assert verdict_of([3e-4, 3e-4, 2e-3]) == "not decided"  # the mean alone lies below 1e-3
    assert verdict_of([3e3, 3e3, 5e2]) == "not decided"
    assert verdict_of([3e-3, 3e-3, 3e-3]) == "neither"


def test_only_the_first_epoch_counts():
    records = [flowing_record(seed, 1e-4) for seed in range(3)]
    for record in records:
        record.arrays["flow_epoch_norms"][1:] = record.arrays["flow_epoch_norms"][1:, ::-1]
    assert depth_verdict(records).word == "vanishing"


def test_a_small_norm_in_the_first_layer_alone_is_no_vanishing_gradient():
    records = [flowing_record(seed, 1e-4) for seed in range(3)]
    for record in records:
        record.arrays["flow_epoch_norms"] *= np.array([1, 1e8, 1e-7, 1])  # falls with depth but for the ends
    assert depth_verdict(records).word == "neither"


def test_zeros_leave_it_undefined_and_older_records_count_for_nothing():
    silent = make_record(seed=1)
    silent.arrays.update(flow_arrays("FCN", 1, 15, scale=0.0))
    verdict = depth_verdict([make_record(seed=0), silent, make_record(seed=2)])
    assert verdict.word == "undefined" and np.isnan(verdict.ratio.estimate)
    old = [replace(make_record(seed=seed), arrays={}) for seed in range(3)]
    assert (depth_verdict(old).word, depth_verdict(old).n) == ("too few seeds", 0)
    assert depth_verdict([*old, *(make_record(seed=seed) for seed in range(3))]).n == 3
