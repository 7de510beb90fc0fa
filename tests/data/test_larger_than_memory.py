"""Data sets that needn't fit into memory: batches come from the memory map."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from checkout_folder import CHECKOUT

from utils.data import images as module
from utils.data.images import ImageSet

HALF_A_GIBIBYTE = """
import resource, sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models import FCN
from utils.data.images import batch_sizes, load_splits
from utils.data.specs import ArraySpec, DatasetSpec
from utils.data.store import RowWriter
from utils.experiment import Experiment, TrainConfig
from utils.training.device import Execution
from utils.training.fit import fit
from utils.training.model import build_model

torch.set_num_threads(1)
data_dir = Path(sys.argv[1])
rng, arrays = np.random.default_rng(0), {}
sizes = {"train": 2**29 // (64 * 64 * 3), "val": 500, "test": 500}
for part, size in sizes.items():
    with RowWriter(data_dir / f"{part}_images.npy", (64, 64, 3)) as writer:
        for start in range(0, size, 1000):
            writer.write(rng.integers(0, 256, (min(1000, size - start), 64, 64, 3), np.uint8))
    arrays[f"{part}_images"] = writer.spec
    with RowWriter(data_dir / f"{part}_labels.npy", ()) as writer:
        writer.write((np.arange(size) % 2).astype(np.uint8))
    arrays[f"{part}_labels"] = writer.spec
spec = DatasetSpec("large", ("a", "b"), (0.5,) * 3, (0.3,) * 3, arrays, ".")


def used() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
    return 1024 * int(line.split()[1])
"""
UNDER_A_LIMIT = """
limit = used() + 500 * 2**20  # less than a copy needs
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
splits = load_splits(spec, data_dir)
try:
    splits.train.images.clone()
except RuntimeError:
    print("no room for a copy")
config = TrainConfig(epochs=1, batch_size=128, optimizer="sgd", learning_rate=0.01)
experiment = Experiment("A", partial(FCN, hidden=(8,)), config)
model = build_model(experiment, splits.image_shape, 2, 0)
result = fit(model, config, 0, splits, Execution(torch.device("cpu"), "fp32", 1))
print("trained", len(result.history))
"""
AGAINST_A_COPY = """
import time

mapped = load_splits(spec, data_dir).train
copied = mapped.take(np.arange(len(mapped)))
order = torch.randperm(len(mapped))
times = {"mapped": [], "copied": []}
for _ in range(5):
    for name, images in (("mapped", mapped), ("copied", copied)):
        started = time.process_time()  # not what other processes take
        for (batch, labels), _ in zip(images.batches(128, order), range(150)):
            pass
        times[name].append(time.process_time() - started)
print(min(times["copied"]) / min(times["mapped"]))
"""


def run(code: str, folder) -> list[str]:
    command = [sys.executable, "-c", HALF_A_GIBIBYTE + code, str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts so on Linux only")
def test_half_a_gibibyte_trains_where_its_copy_has_no_room(tmp_path):
    assert run(UNDER_A_LIMIT, tmp_path) == ["no room for a copy", "trained 1"]


@pytest.mark.slow
def test_batches_from_the_map_are_as_fast_as_from_memory(tmp_path):
    """At least 70%."""
    assert float(run(AGAINST_A_COPY, tmp_path)[0]) > 0.7


def image_set(count: int) -> ImageSet:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 4, 4, 3), np.uint8))
    return ImageSet(images, torch.arange(count), (0.5,) * 3, (0.2,) * 3)


def test_images_that_would_take_too_much_of_a_device_stay_where_they_are(monkeypatch):
    """The meta device has shapes only: enough to see where batches lie."""
    device = torch.device("meta")
    small, large = image_set(8), image_set(9)
    monkeypatch.setattr(module, "room_for_images", lambda _: small.images.nbytes)
    assert small.to(device).images.device == device
    moved = large.to(device)
    assert moved.images is large.images and moved.labels.device == device
    offsets = torch.full((9, 3), 4, device=device)
    for order in (None, torch.arange(9).flip(0)):
        shapes = [(x.shape, x.device, y.device) for x, y in moved.batches(4, order, offsets)]
        assert shapes[0] == (torch.Size([4, 3, 4, 4]), device, device) and len(shapes) == 2
    assert moved.take(np.array([3, 1])).images.equal(large.images[[3, 1]])


def test_a_cpu_has_room_for_any_number():
    assert module.room_for_images(torch.device("cpu")) == float("inf")
