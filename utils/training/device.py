"""Where and how a run computes: device, precision and threads."""

import contextlib
import ctypes
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from joblib import cpu_count

from utils.streams import warn
from utils.training.pooling import with_sliced_pooling


@dataclass(frozen=True)
class Execution:
    """The device, the `precision` and the number of CPU threads.

    `precision` is "fp32", "tf32" or "bf16". With tf32, which only CUDA has, matrix products and convolutions round
    their inputs to 10 bits of mantissa. With bf16 the forward and backward passes are computed in bf16, by autocast.
    Parameters, optimiser and loss stay fp32 in all three.
    """

    device: torch.device
    precision: str
    threads: int

    @property
    def kind(self) -> str:
        """Device and precision, for example "cpu-bf16". Results of different kinds are never pooled."""
        return f"{self.device.type}-{self.precision}"

    def autocast(self) -> contextlib.AbstractContextManager:
        """To be entered for each forward pass: within one, copies of the weights in bf16 are kept and used again."""
        return _autocast(self.device.type, self.precision == "bf16")

    def prepare_process(self) -> None:
        """Set up the whole process. Call it before the first tensor operation."""
        # Late in training many values become denormal (closer to 0 than 1e-38), on which a CPU is very slow. This
        # rounds them to 0. PyTorch's threads inherit the setting when they start, hence before the first operation.
        torch.set_flush_denormal(True)
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            allow_tf32(self.precision == "tf32")
            torch.backends.cudnn.benchmark = False  # it picks the fastest kernel of that moment, which may be another
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # a check that costs a write of each new tensor

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """Move `model` to the device and return it."""
        if self.device.type != "cpu":
            model = with_sliced_pooling(model)
        return model.to(self.device, memory_format=memory_format(self.device))

    def synchronize(self) -> None:
        """Wait until the device has finished all work that was queued. A CPU has no queue, so it returns at once."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


@lru_cache
def _autocast(device_type: str, enabled: bool) -> contextlib.AbstractContextManager:
    """One object for all forward passes: making it costs as much as a small kernel."""
    return torch.autocast(device_type, torch.bfloat16, enabled=enabled)


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout of images and convolutions.

    channels_last stores the channels of a pixel side by side, the layout in which convolution kernels of CPU and CUDA
    are fastest. Only strides change: shapes stay (B, C, H, W). On MPS many releases of PyTorch compute it wrongly
    (issues 175189 and 175190).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def allow_tf32(allowed: bool) -> None:
    """Say both ways whether CUDA may round fp32 inputs to TF32: PyTorch's own default differs by operation."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # from PyTorch 2.9 on; the older names warn there
        precision = "tf32" if allowed else "ieee"
        torch.backends.cuda.matmul.fp32_precision = precision
        torch.backends.cudnn.conv.fp32_precision = precision
    else:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


def keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free, so that the next training step can use it again.

    By default glibc returns it to the system, and the next step pays for new pages: up to a third of the time of a
    convolutional network's training step on a CPU. Does nothing on systems other than Linux with glibc. Source of the
    two parameters: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: the largest int, so never trim
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: 32 MiB, the largest value that 64-bit systems accept


class DeviceLost(RuntimeError):
    """The device computes nothing any more, as after an illegal access to its memory."""


def choose_devices(name: str) -> list[torch.device]:
    """The devices that `name` means, each of which has computed something: one, or all GPUs for "cuda" and "auto".

    "auto" takes CUDA, else MPS, else the CPU, and warns of a GPU that is there but can't be used. Raises ValueError if
    another `name` is unknown or can't be used: there is no silent fallback, since results and times depend on it.
    """
    # cuBLAS is deterministic only with a workspace of its own for each stream, and reads this when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if name in ("auto", "cpu"):
        for kind in ("cuda", "mps") if name == "auto" else ():
            usable = [(device, trouble(device)) for device in present(kind)]
            for device, why in usable:
                if why:
                    warn(f"warning: {device} can't be used ({why}); this run does without it")
            if good := [device for device, why in usable if not why]:
                return good
        return [torch.device("cpu")]
    kind, _, index = name.partition(":")
    devices = [device for device in present(kind) if index in ("", str(device.index))]
    choices = ", ".join(["auto", "cpu", *(str(device) for kind in ("cuda", "mps") for device in present(kind))])
    if not devices:
        raise ValueError(f"--device {name}: there is none here; choose from {choices}")
    for device in devices:
        if why := trouble(device):
            raise ValueError(f"--device {name}: {device} can't be used ({why}); --device cpu can")
    return devices


def present(kind: str) -> list[torch.device]:
    """The devices of a kind that PyTorch sees, usable or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver that is too old warns; the list is empty then
        if kind == "cuda" and torch.cuda.is_available():
            return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if kind == "mps" and torch.backends.mps.is_available():
        return [torch.device("mps")]
    return []


def trouble(device: torch.device) -> str:
    """Why `device` can't compute: no kernels for it in this PyTorch, no memory, no driver; "" if it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a GPU that this PyTorch is too new for: the error says so as well
            return "" if torch.ones(2, device=device).add(1).sum().item() == 4 else "it computes 1 + 1 wrongly"
    except Exception as error:
        return " ".join(str(error).split("\n")[0].split()) or type(error).__name__


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError unless the device has units for that precision. Without them bf16 is slower than fp32."""
    there = {
        "bf16": has_bf16_units(device),
        "tf32": device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0),
    }
    if not there.get(precision, True):
        choices = ", ".join(["auto", "fp32", *(name for name, usable in there.items() if usable)])
        raise ValueError(f"--precision {precision}: {device} has no units for it; choose from {choices}")


@contextmanager
def noting_nondeterminism(device: torch.device) -> Iterator[set[str]]:
    """Collect the names of the CUDA operations without a deterministic form; their results can differ between runs."""
    found: set[str] = set()
    if device.type != "cuda":
        yield found
        return
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message, *where, **more) -> None:
            if match := re.match(r"(\S+) does not have a deterministic implementation", str(message)):
                found.add(match[1])
            else:
                show(message, *where, **more)

        warnings.filterwarnings("always", ".*does not have a deterministic implementation")
        warnings.showwarning = note
        yield found


def physical_cores() -> int:
    """The physical cores that this process may use: those present, limited by its affinity and its cgroup's quota.

    Hyper-threads don't count, since two of them share the arithmetic units of one core.
    """
    return cpu_count(only_physical_cores=True)


def has_bf16_units(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (on a CPU: AVX512-BF16 or AMX).

    On a GPU a small product under autocast is tried as well; PyTorch has no question for MPS.
    """
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                return False
    try:
        ones = torch.ones(2, 2, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            return (ones @ ones).dtype == torch.bfloat16
    except Exception:
        return False
