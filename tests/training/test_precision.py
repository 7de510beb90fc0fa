"""Faster execution changes no answer: gradients against float64, fused optimisers against the plain ones."""

import contextlib
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode

import task_1_1_mnist
import task_1_2_cifar
from utils.training import device
from utils.training.device import Bf16ByFp32, Execution
from utils.training.fit import make_optimizer
from utils.training.machine import describe_environment

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
    for kernels in (contextlib.nullcontext(), Bf16ByFp32()):
        with kernels:
            bf16 = gradient(deepcopy(model), image_shape, Execution(torch.device("cpu"), "bf16", 1))
        assert F.cosine_similarity(bf16, exact, dim=0) >= 0.9
        assert not torch.equal(bf16, fp32)  # else nothing was computed in bf16


@pytest.mark.parametrize(
    "layer, shape",
    [
        (torch.nn.Conv2d(3, 4, 3, 2, 1), (5, 3, 9, 7)),
        (torch.nn.Linear(70, 6), (5, 70)),
        (torch.nn.Linear(70, 6, bias=False), (5, 70)),
    ],
    ids=("convolution", "linear", "linear-without-bias"),
)
def test_bf16_by_fp32_kernels_against_float64(layer, shape):
    """Of whole numbers each product and sum is exact: only the one rounding of a result is left, bit for bit."""
    generator = torch.Generator().manual_seed(3)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    shapes = [layer(torch.zeros(shape)).shape, shape, *(parameter.shape for parameter in parameters)]
    values = [torch.randint(-9, 10, size, generator=generator) for size in shapes]

    def results(dtype):
        upstream, images, *weights = (value.to(dtype).requires_grad_() for value in values)
        output = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), images)
        return [output.detach(), *torch.autograd.grad(output, [images, *weights], upstream)]

    with Bf16ByFp32():
        emulated = results(torch.bfloat16)
    exact = results(torch.float64)
    assert any((result != result.bfloat16()).any() for result in exact)
    for ours, theirs in zip(emulated, exact, strict=True):
        assert ours.dtype == torch.bfloat16 and torch.equal(ours, theirs.bfloat16())


class Products(TorchDispatchMode):
    """Collects the convolutions and products that reach PyTorch's kernels: (operation, type of its first argument)."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if any(part in operation.name() for part in ("conv", "mm", "linear", "matmul")):
            self.found.append((operation.name(), args[0].dtype))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("experiment, image_shape", CASES)
def test_no_bf16_kernel_is_left_in_training_and_inference(experiment, image_shape):
    execution = Execution(torch.device("cpu"), "bf16", 1)
    model = execution.place(without_dropout(experiment, image_shape))
    with Products() as products, Bf16ByFp32():
        gradient(model, image_shape, execution)
        trained = len(products.found)
        with torch.inference_mode(), execution.autocast():
            model(torch.zeros(2, *image_shape))
    assert 0 < trained < len(products.found)
    assert {dtype for _, dtype in products.found} == {torch.float32}, products.found


@pytest.mark.parametrize(
    "precision, units, emulated", [("bf16", False, True), ("bf16", True, False), ("fp32", False, False)]
)
def test_fp32_kernels_compute_bf16_only_on_a_cpu_without_units(precision, units, emulated, monkeypatch):
    monkeypatch.setattr(device, "has_bf16_units", lambda _: units)
    execution = Execution(torch.device("cpu"), precision, 1)
    with _disable_current_modes():
        for _ in range(2):
            execution.prepare_process()
        mode = _get_current_dispatch_mode()
        assert isinstance(mode, Bf16ByFp32) == emulated
        if emulated:
            mode.__exit__(None, None, None)
        assert _get_current_dispatch_mode() is None
    assert describe_environment(execution)["device_name"].endswith(" without bf16 units") == emulated


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
