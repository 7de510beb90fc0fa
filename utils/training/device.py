"""Where and how a run computes: device, precision and threads."""

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
    """The device, the `precision` and the number of CPU threads.

    `precision` is "fp32" or "bf16". With bf16 only the forward and backward passes are computed in bf16, by autocast;
    parameters, optimiser and loss stay fp32.
    """

    device: torch.device
    precision: str
    threads: int

    @property
    def kind(self) -> str:
        """Device and precision, for example "cpu-bf16". Results of different kinds are never pooled."""
        return f"{self.device.type}-{self.precision}"

    @property
    def emulates_bf16(self) -> bool:
        """Whether fp32 kernels stand in for bf16 ones, since the CPU has no bf16 units."""
        return self.kind == "cpu-bf16" and not has_bf16_units(self.device)

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def prepare_process(self) -> None:
        """Set up the whole process. Call it before the first tensor operation."""
        # Late in training many values become denormal (closer to 0 than 1e-38), on which a CPU is very slow. This
        # rounds them to 0. PyTorch's threads inherit the setting when they start, hence before the first operation.
        torch.set_flush_denormal(True)
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        if self.emulates_bf16 and not isinstance(_get_current_dispatch_mode(), Bf16ByFp32):
            Bf16ByFp32().__enter__()  # never left: it holds for the life of the process
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: much faster matrix products, with 10 bits of mantissa
            torch.backends.cudnn.allow_tf32 = True

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """Move `model` to the device and return it."""
        # channels_last stores the channels of a pixel side by side, the layout in which convolution kernels are
        # fastest. Only strides change: shapes stay (B, C, H, W).
        return model.to(self.device, memory_format=torch.channels_last)

    def synchronize(self) -> None:
        """Wait until the device has finished all work that was queued. A CPU has no queue, so it returns at once."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


class Bf16ByFp32(TorchDispatchMode):
    """Computes bf16 convolutions and matrix products with the fp32 kernels and rounds the results to bf16.

    It works in the thread that enters it. Apart from the order of the sums, bf16 units compute the same: exact
    products, summed in fp32. On a CPU without such units, PyTorch's own bf16 convolutions take more than ten times as
    long and round some sums on the way. A backward pass on a CPU runs in the thread that calls it, so this mode covers
    it too.
    """

    # conv2d and linear are in the list since inference mode does not split them into convolution and addmm.
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
    """Let glibc keep the memory that tensors free, so that the next training step can use it again.

    By default glibc returns it to the system, and the next step pays for new pages: up to a third of the time of a
    convolutional network's training step on a CPU. Does nothing on systems other than Linux with glibc. Source of the
    two parameters: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the largest int, so never trim
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: 32 MiB, the largest value that 64-bit systems accept


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes the first that is available of CUDA, MPS and the CPU.

    Raises ValueError if `name` is unknown or not available here. There is no silent fallback to another device, since
    results and times depend on it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name):
        choices = ", ".join(device for device, there in available.items() if there)
        raise ValueError(f"device {name!r} is not available here: choose auto or one of {choices}")
    return torch.device(name)


def physical_cores() -> int:
    """The physical cores that this process may use: those present, limited by its affinity and its cgroup's quota.

    Hyper-threads don't count, since two of them share the arithmetic units of one core.
    """
    return cpu_count(only_physical_cores=True)


def has_bf16_units(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (on a CPU: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
