"""Where and how a run computes: device, precision, threads, and the streams of random numbers."""

import contextlib
import ctypes
import sys
from dataclasses import dataclass

import torch
from joblib import cpu_count
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils._pytree import tree_map_only


@dataclass(frozen=True)
class Execution:
    """The device, "fp32" or "bf16" (autocast: parameters, optimiser and loss stay fp32), and the CPU threads."""

    device: torch.device
    precision: str
    threads: int

    @property
    def kind(self) -> str:
        """Such as cpu-bf16: results of different kinds are never pooled."""
        return f"{self.device.type}-{self.precision}"

    @property
    def emulates_bf16(self) -> bool:
        """Whether bf16 is computed by fp32 kernels, as on a CPU without bf16 units."""
        return self.kind == "cpu-bf16" and not has_bf16_units(self.device)

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare_process(self) -> None:
        """Settings of the whole process, to be made before its first tensor operation."""
        # Threads inherit this when they start. Without it, denormal numbers late in training slow a CPU down.
        torch.set_flush_denormal(True)
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        if self.emulates_bf16 and not isinstance(_get_current_dispatch_mode(), Bf16ByFp32):
            Bf16ByFp32().__enter__()
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32
            torch.backends.cudnn.allow_tf32 = True

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """`model` on the device, its convolutions in the memory format that is fastest there."""
        return model.to(self.device, memory_format=torch.channels_last)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given; a CPU always has."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class Bf16ByFp32(TorchDispatchMode):
    """In this thread, convolutions and products of bf16 matrices by the fp32 kernels, the results rounded to bf16.

    This is what bf16 units compute (products exact, sums in fp32) up to the order of the sums. Without such units,
    PyTorch's own bf16 kernels for convolutions take more than ten times as long and round some sums half-way.
    Backward passes on a CPU run in the thread that calls them, so the mode holds for them too.
    """

    # In inference mode, conv2d and linear arrive whole.
    OPERATIONS = frozenset(
        getattr(torch.ops.aten, name).default
        for name in ("convolution", "convolution_backward", "mm", "addmm", "conv2d", "linear")
    )

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation not in self.OPERATIONS or args[0].dtype != torch.bfloat16:
            return operation(*args, **(kwargs or {}))
        result = operation(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {}))
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, result)


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free, instead of returning it to the system and faulting it in at the next step.

    Up to a third of a convolutional net's training step on a CPU. Values by mallopt(3): M_TRIM_THRESHOLD (-1) at its
    largest, M_MMAP_THRESHOLD (-3) at the 32 MiB that is its largest on 64-bit systems. Elsewhere nothing is done.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-3, 2**25)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises ValueError if `name` is unknown or this machine hasn't got it: never a silent fallback.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name):
        choices = ", ".join(device for device, there in available.items() if there)
        raise ValueError(f"device {name!r} is not available here: choose auto or one of {choices}")
    return torch.device(name)


def physical_cores() -> int:
    """Physical cores that this process may use: the least of those present, its affinity and its cgroup's quota."""
    return cpu_count(only_physical_cores=True)


def has_bf16_units(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (on a CPU: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
