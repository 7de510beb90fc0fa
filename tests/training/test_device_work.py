"""What a training run asks of a device, seen on a CPU: no float64, no waiting within an epoch, nothing elsewhere."""

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from made_records import without_times
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import CIFARCNN, FCN, CNNWithResidual, SimpleCNN
from utils.data.images import ImageSet, Splits
from utils.experiment import Experiment, TrainConfig
from utils.training import checkpoint
from utils.training import device as device_module
from utils.training.checkpoint import Checkpoints
from utils.training.device import Execution
from utils.training.fit import fit, make_optimizer, make_schedule, train_one_epoch
from utils.training.gradients import GradientFlow
from utils.training.model import build_model
from utils.training.pooling import with_sliced_pooling
from utils.training.predict import confident_mistakes, loss_and_correct, predict
from utils.training.seeds import seed_model

CPU = torch.device("cpu")
RECIPES = {
    "adam": TrainConfig(2, 32, "adam", 1e-3, weight_decay=0.01),
    "sgd": TrainConfig(2, 32, "sgd", 0.01, augmentation=True),
    "momentum": TrainConfig(2, 32, "sgd", 0.01, momentum=0.9, augmentation=True),
}
SMALL = {
    "FCN": partial(FCN, hidden=(16, 8)),
    "SimpleCNN": SimpleCNN,
    "residual": partial(CNNWithResidual, widths=(16, 32), strides=(1, 2), blocks_per_stage=1, pooled_size=3),
}


@pytest.fixture
def few(data) -> Splits:
    parts = {name: getattr(data, name).take(np.arange(70)) for name in ("train", "fit", "val", "test")}
    return replace(data, **parts)


class NoFloat64(TorchDispatchMode):
    """Raises TypeError as MPS does, which has no float64."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if value is torch.float64 or (isinstance(value, torch.Tensor) and value.dtype == torch.float64):
                raise TypeError(f"{operation.name()} is given or makes float64")
        return result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("net", SMALL)
def test_no_number_is_float64(few, net, recipe, precision):
    """A whole fit, predictions and the most confident mistakes, with gradient flow and augmentation."""
    execution = Execution(CPU, precision, 1)
    with NoFloat64():
        model = execution.place(build_model(Experiment("net", SMALL[net], RECIPES[recipe]), few.image_shape, 10, 0))
        fit(model, RECIPES[recipe], 0, few, execution)
        logits = predict(model, few.test, execution)
        loss_and_correct(logits, few.test.labels)
        confident_mistakes(logits, few.test)


def test_a_planted_float64_is_found(few):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_forward_hook(lambda module, args, logits: logits.double().float())
    with NoFloat64(), pytest.raises(TypeError, match="float64"):
        predict(model, few.test, Execution(CPU, "fp32", 1))


class HostReads(TorchDispatchMode):
    """Counts what makes a CPU wait for a GPU: numbers that are read, and shapes that depend on values.

    Copies to the CPU are none here, where all tensors lie there: those are found with fake CUDA tensors below.
    """

    WAIT = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2"}

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().removeprefix("aten::").partition(".")[0]
        if name in self.WAIT:
            self.found[name] += 1
        return operation(*args, **(kwargs or {}))


class Reading(nn.Sequential):
    """Looks at a number in each forward pass."""

    def forward(self, images):
        logits = super().forward(images)
        return logits * (1 if logits.sum().item() < 1e9 else 0.5)


def reads_within_an_epoch(few, net, recipe) -> list[Counter]:
    """What an epoch reads by each of its steps, in order: before the first batch, then within each step."""
    execution, config, found = Execution(CPU, "bf16", 1), RECIPES[recipe], []
    model = execution.place(build_model(Experiment("net", net, config), few.image_shape, 10, 0))
    optimizer = make_optimizer(model, config)
    order = torch.randperm(70)
    offsets = torch.full((70, 3), 1) if config.augmentation else None

    def noted(batches):
        for batch in batches:
            yield batch
            found.append(Counter(reads.found))

    batches = few.train.batches(config.batch_size, order, offsets)
    with GradientFlow(model, optimizer, 3), HostReads() as reads:
        train_one_epoch(model, optimizer, noted(batches), execution, config, make_schedule(optimizer, config, 3))
    assert len(found) == 3 and sum(reads.found.values()) > sum(found[-1].values())  # at its end an epoch reads
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("net", SMALL)
def test_nothing_is_read_before_the_end_of_an_epoch(few, net, recipe):
    assert reads_within_an_epoch(few, SMALL[net], recipe) == [Counter()] * 3


def test_a_planted_reading_is_found(few):
    def net(image_shape, num_classes):
        return Reading(nn.Flatten(), nn.Linear(64, num_classes))

    assert [sum(found.values()) for found in reads_within_an_epoch(few, net, "adam")] == [1, 2, 3]


class Elsewhere(TorchDispatchMode):
    """Collects the operations whose result lies on another device than CUDA."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        # PyTorch has no fake form of fused SGD, which changes its arguments in place: these are looked at instead.
        fused_sgd = operation is torch.ops.aten._fused_sgd_.default
        result = args if fused_sgd else operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.device.type != "cuda":
                self.found.append((operation.name(), value.device))
        return None if fused_sgd else result


NETS = [
    Experiment("FCN", FCN, RECIPES["adam"]),
    Experiment("SimpleCNN", SimpleCNN, RECIPES["sgd"]),
    Experiment("CIFARCNN", CIFARCNN, RECIPES["momentum"]),
    Experiment("residual", CNNWithResidual, RECIPES["momentum"]),
    Experiment("residual, pooled", partial(CNNWithResidual, strides=(1, 2, 2, 1), pooled_size=3), RECIPES["adam"]),
]


def placed(model: nn.Module) -> nn.Module:
    """`Execution.place` for fake tensors, which `nn.Module.to` can't exchange."""
    model = with_sliced_pooling(model)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 4:
                setattr(module, name, nn.Parameter(parameter.detach().to(memory_format=torch.channels_last)))
    return model


@pytest.mark.parametrize("experiment", NETS, ids=lambda e: e.name)
def test_on_a_gpu_all_tensors_stay_on_it(experiment, fake_card):
    assert fake_card(experiment) == []


def test_on_a_gpu_a_planted_copy_to_the_cpu_is_found(fake_card):
    def net(image_shape, num_classes):
        model = FCN(image_shape, num_classes)
        model.register_forward_hook(lambda module, args, logits: logits.cpu().cuda())
        return model

    assert [name for name, _ in fake_card(Experiment("net", net, RECIPES["adam"]))][0] == "aten::_to_copy"


def steps_on_a_fake_card(experiment) -> list:
    """Trains three steps and returns what left the GPU.

    Fake CUDA tensors have shapes, types and devices as on a card, and no values.
    """
    device, config = torch.device("cuda", 0), experiment.config
    execution = Execution(device, "bf16", 1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device(device):
            model = experiment.model(image_shape=(3, 32, 32), num_classes=10)
        model = placed(model)
        images = torch.empty(70, 32, 32, 3, dtype=torch.uint8, device=device)
        train = ImageSet(images, torch.empty(70, dtype=torch.int64, device=device), (0.5,) * 3, (0.2,) * 3)
        order = torch.empty(70, dtype=torch.int64, device=device)
        offsets = torch.empty(70, 3, dtype=torch.int64, device=device) if config.augmentation else None
        optimizer = make_optimizer(model, config)
        assert all(group["fused"] for group in optimizer.param_groups)
        next(train.batches(1))  # what is made once, from numbers of the CPU
        with GradientFlow(model, optimizer, 3) as flow, Elsewhere() as elsewhere:
            model.train()
            sizes = []
            for batch, labels in train.batches(config.batch_size, order, offsets):
                with execution.autocast():
                    logits = model(batch)
                assert F.cross_entropy(logits.float(), labels).device == device
                for parameter in model.parameters():  # no backward pass: it asks for a real card
                    parameter.grad = torch.empty_like(parameter)
                optimizer.step()
                optimizer.zero_grad()
                sizes.append(len(batch))
                assert batch.is_contiguous(memory_format=torch.channels_last) and batch.device == device
                assert (logits.device, logits.dtype) == (device, torch.bfloat16)
        assert sizes == [32, 32, 6]
        states = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor is not None]
        assert {tensor.device for tensor in [*model.parameters(), *states, flow.norms, flow.update_ratios]} == {device}
    return elsewhere.found


@pytest.fixture
def fake_card(monkeypatch):
    """`steps_on_a_fake_card` where PyTorch believes in a card for bf16."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(device_module, "_autocast", device_module._autocast.__wrapped__)  # cached, it would stay
    return steps_on_a_fake_card


class Drawing(nn.Module):
    """Draws from Python's and NumPy's global generators when it is made and in each forward pass."""

    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], num_classes)
        with torch.no_grad():
            self.layer.bias += random.random() + np.random.uniform()

    def forward(self, images):
        noise = random.gauss(0, 0.1) + float(np.random.normal(0, 0.1)) if self.training else 0.0
        return self.layer(images.flatten(1)) + noise * images.mean()


@pytest.mark.parametrize("library", ["random", "numpy"])
def test_other_libraries_generators_follow_the_seed(library):
    draw = random.random if library == "random" else np.random.uniform

    def drawn(*stream):
        seed_model(*stream)
        return draw()

    assert drawn(0, "initialisation") == drawn(0, "initialisation")
    assert len({drawn(0, "initialisation"), drawn(1, "initialisation"), drawn(0, "dropout", 1)}) == 3


def test_a_model_that_draws_from_other_libraries_repeats_its_bits_resumed_or_not(few, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "LEAST_SECONDS", 0.0)
    config = replace(RECIPES["adam"], epochs=4)

    def train(seed, folder=None, stop_after=None):
        epochs = 0

        def press_ctrl_c(entry):
            nonlocal epochs
            epochs += 1
            if stop_after is not None and epochs > stop_after:
                raise KeyboardInterrupt

        model = build_model(Experiment("drawing", Drawing, config), few.image_shape, 10, seed)
        checkpoints = Checkpoints(tmp_path / folder, {}) if folder else None
        result = fit(model, config, seed, few, Execution(CPU, "fp32", 1), press_ctrl_c, checkpoints)
        return without_times(result.history), model.layer.weight.tolist(), model.layer.bias.tolist()

    random.seed(1)
    whole = train(3)
    random.seed(2)
    np.random.seed(2)
    assert train(3) == whole and train(4) != whole
    with pytest.raises(KeyboardInterrupt):
        train(3, "parts", stop_after=2)
    random.seed(9)
    assert train(3, "parts") == whole
