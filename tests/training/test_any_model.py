"""Whatever maps images to logits: frozen, unused, tied, parametrised and lazy parts are trained, kept and resumed."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import without_times
from safetensors.torch import load
from torch import nn

from utils.experiment import Experiment, TrainConfig, config_hash, model_options
from utils.records.flow import thin
from utils.training.checkpoint import Checkpoints, tensor_bytes
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.gradients import weight_tensors
from utils.training.model import broken_contract, build_model, parameter_shapes

EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
ADAM = TrainConfig(epochs=3, batch_size=64, optimizer="adam", learning_rate=1e-3)
SGD = TrainConfig(epochs=3, batch_size=64, optimizer="sgd", learning_rate=0.05, momentum=0.9)


class Net(nn.Module):
    """A net whose parts the cases below change."""

    def __init__(self, image_shape, num_classes, activation=nn.ReLU):
        super().__init__()
        self.first = nn.Linear(image_shape[1] * image_shape[2], 16)
        self.middle = nn.Linear(16, 16)
        self.last = nn.Linear(16, num_classes)
        self.activation = activation()

    def forward(self, images):
        hidden = self.activation(self.first(images.flatten(1)))
        return self.last(self.activation(self.middle(hidden)))


def frozen(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    net.first.requires_grad_(False)
    return net


def unused(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    net.spare = nn.Linear(3, 3)
    return net


def tied(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    net.second = nn.Linear(16, 16)
    net.second.weight = net.middle.weight
    net.middle = nn.Sequential(net.middle, nn.ReLU(), net.second)
    return net


def parametrised(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    nn.utils.parametrizations.weight_norm(net.middle)
    return net


def lazy(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(num_classes))


def reads_a_value(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    net.scale = 1 + net.first.weight.abs().max().item()  # no value on the meta device
    return net


def of_other_libraries(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    with torch.no_grad():
        net.first.weight.mul_(random.random() + np.random.rand())
    return net


MODELS = [frozen, unused, tied, parametrised, lazy, reads_a_value, of_other_libraries]


def trained(model, data, config, checkpoints=None, epochs=None, seed=0):
    net = build_model(Experiment("net", model, config), data.image_shape, data.num_classes, seed)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = fit(net, replace(config, epochs=epochs or config.epochs), seed, data, EXECUTION, checkpoints=checkpoints)
    return net, before, result


@pytest.mark.parametrize("config", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("model", MODELS)
def test_it_trains_resumes_with_equal_bits_and_its_weights_load(data, tmp_path, model, config):
    whole, before, result = trained(model, data, config)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    trained(model, data, config, Checkpoints(tmp_path, {"run": "1"}), epochs=1)
    resumed, _, parts = trained(model, data, config, Checkpoints(tmp_path, {"run": "1"}))
    assert without_times(parts.history) == without_times(result.history)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    loaded = load(tensor_bytes(whole.state_dict()))
    assert whole.load_state_dict(loaded) and all(torch.equal(loaded[n], t) for n, t in whole.state_dict().items())
    if model is frozen:
        assert torch.equal(before["first.weight"], whole.first.weight)
    arrays = thin(result.gradient_flow["norms"], result.gradient_flow["update_ratios"], result.gradient_flow[
        "weight_names"], 3)  # fmt: skip
    assert np.isfinite(arrays["flow_norms"]).all()


def test_gradient_flow_is_of_what_has_a_gradient(data):
    def names(model):
        net, _, result = trained(model, data, ADAM)
        flow = result.gradient_flow
        return thin(flow["norms"], flow["update_ratios"], flow["weight_names"], 3)["flow_weight_names"].tolist()

    assert names(frozen) == ["middle.weight", "last.weight"]
    assert names(unused) == ["first.weight", "middle.weight", "last.weight"]
    assert names(parametrised) == ["first.weight", "middle.parametrizations.weight.original1", "last.weight"]
    assert len(names(tied)) == 3  # the shared one once
    assert weight_tensors(Net((1, 8, 8), 10)).keys() == {"first.weight", "middle.weight", "last.weight"}


def test_the_seed_decides_what_other_libraries_draw(data):
    first, second = (trained(of_other_libraries, data, ADAM, seed=seed)[1]["first.weight"] for seed in (0, 1))
    assert torch.equal(first, trained(of_other_libraries, data, ADAM)[1]["first.weight"])
    assert not torch.equal(first, second)


def test_shapes_of_models_that_need_values_are_known_before_training():
    for model in (lazy, reads_a_value):
        experiment = Experiment("net", model, ADAM)
        built = build_model(experiment, (1, 8, 8), 10, seed=0)
        assert parameter_shapes(experiment, (1, 8, 8), 10) == {n: tuple(p.shape) for n, p in built.named_parameters()}


def test_a_class_as_option_counts_in_the_hash_by_its_name():
    from functools import partial

    options = model_options(partial(Net, activation=nn.GELU))
    assert options == {"class": "Net", "activation": "torch.nn.modules.activation.GELU"}
    assert model_options(partial(Net, activation=nn.ReLU)) == {"class": "Net"}  # its default
    hashes = {
        config_hash(Experiment("net", partial(Net, activation=chosen), ADAM), "digits", {})
        for chosen in (nn.ReLU, nn.GELU, nn.SiLU)
    }
    assert len(hashes) == 3


def too_few_logits(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes - 1))


def not_finite(image_shape, num_classes):
    net = Net(image_shape, num_classes)
    nn.init.constant_(net.last.bias, float("nan"))
    return net


def too_large_a_kernel(image_shape, num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 11), nn.Flatten(), nn.Linear(4, num_classes))


def nothing_to_train(image_shape, num_classes):
    return Net(image_shape, num_classes).requires_grad_(False)


class Tuple(Net):
    def forward(self, images):
        return super().forward(images), images


class Hidden(Net):
    """Its state dict names only a part."""

    def state_dict(self, *arguments, **options):
        return {n: t for n, t in super().state_dict(*arguments, **options).items() if not n.startswith("first.")}


class FixedMomentum(nn.BatchNorm1d):
    def forward(self, images):
        return super().forward(images) * round(self.momentum, 1)


def another_batch_norm(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), FixedMomentum(64), nn.Linear(64, num_classes))


@pytest.mark.parametrize(
    "model, fault",
    [
        (Hidden, r"its state_dict\(\) lacks first.weight, first.bias"),
        (another_batch_norm, "TypeError: type NoneType doesn't define __round__ method"),
        (too_few_logits, r"returns \(64, 9\), not logits \(64, 10\)"),
        (not_finite, "not all finite"),
        (too_large_a_kernel, r"images \(64, 1, 8, 8\): RuntimeError: .*Kernel size"),
        (nothing_to_train, "no parameter to train"),
        (Tuple, r"returns tuple, not logits \(64, 10\)"),
    ],
)
def test_a_broken_contract_is_a_sentence(data, model, fault):
    import re

    assert re.search(fault, broken_contract(Experiment("net", model, ADAM), data, EXECUTION))


@pytest.mark.parametrize("model", MODELS)
def test_what_keeps_the_contract_has_no_fault(data, model):
    assert broken_contract(Experiment("net", model, ADAM), data, EXECUTION) == ""
