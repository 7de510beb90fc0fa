"""Which devices a run gets, how PyTorch is set for them, and what is refused; GPUs and Macs are made up."""

import subprocess
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import CNNWithResidual
from utils.data import images as images_module
from utils.experiment import Experiment, TrainConfig
from utils.training import device as devices
from utils.training import fit as fit_module
from utils.training import machine
from utils.training.checkpoint import Checkpoints
from utils.training.device import (
    Execution,
    allow_tf32,
    check_precision,
    choose_devices,
    memory_format,
    noting_nondeterminism,
)
from utils.training.fit import make_optimizer, make_schedule, restored, save_checkpoint
from utils.training.model import build_model
from utils.training.pooling import SlicedAveragePool, with_sliced_pooling

CPU, MPS, CUDA = torch.device("cpu"), torch.device("mps"), torch.device("cuda", 0)
GPUS = [torch.device("cuda", index) for index in range(3)]


# Which devices


@pytest.fixture
def machine_with(monkeypatch):
    """`machine_with(cuda=[...], mps=[...], broken={device: why})` makes up what PyTorch sees."""

    def make_up(cuda=(), mps=(), broken=None):
        monkeypatch.setattr(devices, "present", lambda kind: list({"cuda": cuda, "mps": mps}.get(kind, ())))
        monkeypatch.setattr(devices, "trouble", lambda device: (broken or {}).get(device, ""))

    return make_up


def test_auto_takes_all_gpus_that_compute(machine_with, capsys):
    machine_with(cuda=GPUS, mps=[MPS])
    assert choose_devices("auto") == choose_devices("cuda") == GPUS
    assert choose_devices("cuda:1") == GPUS[1:2] and choose_devices("mps") == [MPS] and choose_devices("cpu") == [CPU]
    machine_with(mps=[MPS])
    assert choose_devices("auto") == [MPS]
    machine_with()
    assert choose_devices("auto") == [CPU] and capsys.readouterr().err == ""


def test_auto_warns_of_a_broken_gpu_and_does_without_it(machine_with, capsys):
    machine_with(cuda=GPUS, broken={GPUS[1]: "no kernel image"})
    assert choose_devices("auto") == [GPUS[0], GPUS[2]]
    assert capsys.readouterr().err == "warning: cuda:1 can't be used (no kernel image); this run does without it\n"
    for kind, device in (("cuda", GPUS[0]), ("mps", MPS)):
        machine_with(**{kind: [device]}, broken={device: "out of memory"})
        assert choose_devices("auto") == [CPU]
        told = capsys.readouterr().err
        assert told == f"warning: {device} can't be used (out of memory); this run does without it\n"


@pytest.mark.parametrize("name, device", [("cuda", GPUS[0]), ("cuda:0", GPUS[0]), ("mps", MPS)])
def test_a_broken_gpu_that_was_asked_for_is_one_sentence_with_the_way_out(machine_with, name, device):
    machine_with(cuda=GPUS, mps=[MPS], broken={device: "no kernel image"})
    with pytest.raises(ValueError) as caught:
        choose_devices(name)
    assert str(caught.value) == f"--device {name}: {device} can't be used (no kernel image); --device cpu can"


@pytest.mark.parametrize("name", ["cuda:7", "mps", "tpu", "", "cuda:x"])
def test_a_device_that_is_not_here_is_named_with_those_that_are(machine_with, name):
    machine_with(cuda=GPUS[:2])
    with pytest.raises(ValueError) as caught:
        choose_devices(name)
    assert str(caught.value) == f"--device {name}: there is none here; choose from auto, cpu, cuda:0, cuda:1"


def test_what_is_wrong_with_a_device_is_one_line(monkeypatch):
    assert devices.trouble(CPU) == ""

    def broken(*_, **__):
        warnings.warn("this GPU is too new", stacklevel=1)
        raise RuntimeError("CUDA error:  no kernel image\nCompile with TORCH_USE_CUDA_DSA\n")

    monkeypatch.setattr(torch, "ones", broken)
    assert devices.trouble(CUDA) == "CUDA error: no kernel image"
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(2))
    assert devices.trouble(CPU) == "it computes 1 + 1 wrongly"


# Precision


def test_tf32_is_said_both_ways(monkeypatch):
    """With the names of PyTorch 2.9 and with the older ones; never left as it was."""
    new = SimpleNamespace(
        cuda=SimpleNamespace(matmul=SimpleNamespace(fp32_precision="none")),
        cudnn=SimpleNamespace(conv=SimpleNamespace(fp32_precision="none")),
    )
    old = SimpleNamespace(
        cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=None)), cudnn=SimpleNamespace(allow_tf32=None)
    )
    for allowed, word in ((True, "tf32"), (False, "ieee"), (True, "tf32")):
        monkeypatch.setattr(torch, "backends", new)
        allow_tf32(allowed)
        assert new.cuda.matmul.fp32_precision == new.cudnn.conv.fp32_precision == word
        monkeypatch.setattr(torch, "backends", old)
        allow_tf32(allowed)
        assert old.cuda.matmul.allow_tf32 is old.cudnn.allow_tf32 is allowed
        assert vars(old.cuda.matmul).keys() == {"allow_tf32"}


def test_a_precision_without_units_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setattr(devices, "has_bf16_units", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    for precision, device, choices in (
        ("tf32", CPU, "auto, fp32"),
        ("tf32", MPS, "auto, fp32"),
        ("tf32", CUDA, "auto, fp32"),
        ("bf16", CPU, "auto, fp32"),
        ("bf16", CUDA, "auto, fp32"),
        ("bf16", MPS, "auto, fp32"),
    ):
        with pytest.raises(ValueError) as caught:
            check_precision(precision, device)
        told = f"--precision {precision}: {device} has no units for it; choose from {choices}"
        assert str(caught.value) == told
    for device in (CPU, CUDA, MPS):
        check_precision("fp32", device)
    monkeypatch.setattr(devices, "has_bf16_units", lambda device: True)
    check_precision("bf16", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    for precision in ("fp32", "tf32", "bf16"):
        check_precision(precision, CUDA)


def test_operations_without_a_deterministic_form_are_collected_and_other_warnings_let_through():
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with noting_nondeterminism(CUDA) as found:
            for name in ("upsample_bilinear2d_backward_cuda", "put_", "put_"):
                warnings.warn(f"{name} does not have a deterministic implementation, but you set ...", stacklevel=1)
            warnings.warn("something else", DeprecationWarning, stacklevel=1)
        warnings.warn("put_ does not have a deterministic implementation", stacklevel=1)
    assert found == {"upsample_bilinear2d_backward_cuda", "put_"}
    assert [str(other.message).partition(" does")[0] for other in others] == ["something else", "put_"]
    with pytest.warns(UserWarning, match="put_"), noting_nondeterminism(CPU) as found:
        warnings.warn("put_ does not have a deterministic implementation", stacklevel=1)
    assert found == set()


# Pooling by slices


@pytest.mark.parametrize(
    "size, output",
    [((8, 8), (4, 4)), ((14, 14), (4, 4)), ((7, 5), (4, 3)), ((7, 7), (3, 3)), ((5, 9), (5, 2)), ((3, 4), (5, 6))],
)
def test_pooling_by_slices_is_adaptive_average_pooling(size, output):
    """Sizes that divide and that don't, not square, enlarged; values and gradients."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, *size, generator=generator, requires_grad=True)
    weights = torch.randn(5, 3, *output, generator=generator)
    ours, theirs = SlicedAveragePool(output)(images), F.adaptive_avg_pool2d(images, output)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    (our_gradient,), (their_gradient,) = (torch.autograd.grad((y * weights).sum(), images) for y in (ours, theirs))
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-6, atol=1e-6)


class Own(nn.AdaptiveAvgPool2d):
    """Somebody's own pooling, which may do anything."""


def test_only_adaptive_average_pooling_is_replaced_wherever_it_is():
    inner = nn.Sequential(nn.AdaptiveAvgPool2d((4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(2))
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), inner), nn.AdaptiveAvgPool2d(5), nn.AdaptiveMaxPool2d(4))
    model.extend([nn.AdaptiveAvgPool2d((1, 1)), nn.AdaptiveAvgPool2d((None, 4)), Own(4)])
    before = list(model.modules())
    assert with_sliced_pooling(model) is model
    replaced = {type(old).__name__: new for old, new in zip(before, model.modules(), strict=True) if old is not new}
    assert replaced.keys() == {"AdaptiveAvgPool2d"}
    assert isinstance(inner[0], SlicedAveragePool) and inner[0].output_size == (4, 3)
    assert isinstance(model[1], SlicedAveragePool) and model[1].output_size == (5, 5)
    assert sum(old is not new for old, new in zip(before, model.modules(), strict=True)) == 2


def pooled_net() -> nn.Module:
    torch.manual_seed(0)
    return CNNWithResidual((1, 8, 8), 10, widths=(16, 32), strides=(1, 1), blocks_per_stage=1, pooled_size=3)


def test_on_a_cpu_a_model_stays_what_it_is(monkeypatch):
    model = pooled_net()
    modules, weights = list(model.modules()), [p.detach().clone() for p in model.parameters()]
    placed = Execution(CPU, "fp32", 1).place(model)
    assert placed is model and all(old is new for old, new in zip(modules, placed.modules(), strict=True))
    assert all(torch.equal(old, new) for old, new in zip(weights, placed.parameters(), strict=True))
    monkeypatch.setattr(nn.Module, "to", lambda self, *_, **__: self)
    for device in (MPS, CUDA):
        assert isinstance(Execution(device, "fp32", 1).place(pooled_net()).pool, SlicedAveragePool)


# Apple silicon


def test_the_layout_on_each_device():
    assert memory_format(MPS) == torch.contiguous_format
    assert memory_format(CPU) == memory_format(CUDA) == torch.channels_last


def test_models_are_placed_in_the_devices_layout(monkeypatch):
    asked = []
    monkeypatch.setattr(nn.Module, "to", lambda self, device, memory_format: asked.append((device, memory_format)))
    for device in (MPS, CPU, CUDA):
        Execution(device, "fp32", 1).place(pooled_net())
    channels_last = torch.channels_last
    assert asked == [(MPS, torch.contiguous_format), (CPU, channels_last), (CUDA, channels_last)]


class OnMps(torch.Tensor):
    """A tensor of the CPU that says it lies on MPS."""

    device = MPS


def test_batches_are_contiguous_on_mps_and_channels_last_elsewhere(data, monkeypatch):
    scale_and_shift = data.train._scale_and_shift
    assert next(data.train.batches(3))[0].is_contiguous(memory_format=torch.channels_last)
    coloured = images_module.ImageSet(torch.zeros(5, 4, 6, 3, dtype=torch.uint8), data.train.labels[:5], (0.5,), (1.0,))
    (images, _), _ = coloured.batches(3)
    assert images.stride() == (72, 1, 18, 3)
    fake = images_module.ImageSet(coloured.images.as_subclass(OnMps), coloured.labels, (0.5,), (1.0,))
    (images, _), _ = fake.batches(3)
    assert images.shape == (3, 3, 4, 6) and images.stride() == (72, 24, 6, 1)
    assert data.train._scale_and_shift is scale_and_shift


def test_a_step_counter_stays_on_the_cpu_where_adam_is_not_fused(data, tmp_path, monkeypatch):
    """After going on: MPS refuses a counter of its own; a fused optimiser wants it on the device."""
    config = TrainConfig(1, 64, "adam", 1e-3)
    moved = []

    def noted(tensor, *args, _to=torch.Tensor.to, **kwargs):
        if tensor.dim() == 0 and args[:1] == (CPU,):
            moved.append(tensor)
        return _to(tensor, *args, **kwargs)

    for fused in (True, False):
        model = build_model(
            Experiment("net", partial(CNNWithResidual, widths=(16,), strides=(1,)), config), (1, 8, 8), 10, 0
        )
        optimizer = make_optimizer(model, config)
        schedule = make_schedule(optimizer, config, steps_an_epoch=1)
        optimizer.defaults["fused"] = fused
        for group in optimizer.param_groups:
            group["fused"] = fused
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        checkpoints = Checkpoints(tmp_path / str(fused), {})
        save_checkpoint(checkpoints, model, optimizer, schedule, fit_module.Fit(history=[{}]))
        optimizer.state.clear()
        moved.clear()
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "to", noted)
            restored(checkpoints, model, optimizer, schedule)
        steps = [optimizer.state[parameter]["step"] for parameter in model.parameters()]
        assert {step.item() for step in steps} == {1.0} and {step.device for step in steps} == {CPU}
        # The model's device is the CPU here: what counts is whether the counter is sent to it.
        assert len(moved) == (len(steps) if fused else 0)


def test_no_optimiser_is_fused_on_mps():
    class Net(nn.Module):
        def parameters(self, recurse=True):
            yield torch.zeros(2).as_subclass(OnMps).requires_grad_()

    for optimizer in ("adam", "sgd"):
        assert make_optimizer(Net(), TrainConfig(1, 1, optimizer, 0.1)).defaults["fused"] is False
        assert make_optimizer(nn.Linear(2, 2), TrainConfig(1, 1, optimizer, 0.1)).defaults["fused"] is True


def test_the_name_of_a_mac_is_its_chips(monkeypatch):
    def run(answer):
        def of(command, **options):
            assert command == ["sysctl", "-n", "machdep.cpu.brand_string"] and options["timeout"] <= 10
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(stdout=answer)

        monkeypatch.setattr(subprocess, "run", of)

    run("never asked")
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine._apple_chip() == ""
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.Path, "read_text", lambda self: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    run("Apple M2 Pro\n")
    for device in (CPU, MPS):
        assert machine.device_name(Execution(device, "fp32", 1)) == "Apple M2 Pro"
    for answer in (FileNotFoundError(), subprocess.TimeoutExpired("sysctl", 10), ""):
        run(answer)
        assert machine.device_name(Execution(MPS, "fp32", 1)) == "arm"
