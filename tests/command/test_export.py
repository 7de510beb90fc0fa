"""`--export`: ONNX files that say how to use them and compute what PyTorch computes."""

import json
import re
import sys
from importlib import util

import numpy as np
import pytest
import torch
from checkout_folder import CHECKOUT
from made_records import make_record
from made_weights import finished_cell, net_of, random_net
from PIL import Image
from place import TASK, digests
from sklearn.datasets import load_digits, load_sample_images

import task_1_1_mnist
import task_1_2_cifar
from utils.command.added import load
from utils.command.export import onnx_bytes
from utils.command.libraries import enlargement
from utils.command.trained import Trained
from utils.data.decode import Target
from utils.data.specs import CIFAR10, DIGITS, MNIST
from utils.experiment import Experiment
from utils.training.device import Execution

onnxruntime = pytest.importorskip("onnxruntime")
A, B = TASK.experiments
EXECUTION = Execution(torch.device("cpu"), "fp32", 1)
EXAMPLE = re.findall(
    r"```python\n(.*?)```", (CHECKOUT / "docs/your-own-images.md").read_text(encoding="utf-8"), flags=re.DOTALL
)[1]


def real_images(spec, count: int) -> np.ndarray:
    """Handwritten digits or pieces of photographs, uint8 (count, H, W[, 3])."""
    channels, size, _ = spec.image_shape
    if channels == 1:
        images = [Image.fromarray((digit * 255 / 16).astype(np.uint8)) for digit in load_digits().images[:count]]
    else:
        photographs = [Image.fromarray(image) for image in load_sample_images().images]
        images = [photographs[k % 2].crop((80 * k, 40 * k, 80 * k + 120, 40 * k + 120)) for k in range(count)]
    return np.stack([image.resize((size, size)) for image in images])


def normalised(images: np.ndarray, spec) -> np.ndarray:
    """As the metadata say it, (N, C, H, W) float32."""
    pixels = images.reshape(len(images), *spec.image_shape[1:], -1) / 255
    return ((pixels - spec.mean) / spec.std).transpose(0, 3, 1, 2).astype(np.float32)


def assert_computes_the_same(content: bytes, net, spec):
    """In batches of one and of seven."""
    session = onnxruntime.InferenceSession(content)
    inputs = normalised(real_images(spec, 7), spec)
    with torch.inference_mode():
        expected = net(torch.from_numpy(inputs)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.1  # the images do differ
    for rows in (slice(0, 1), slice(3, 4), slice(0, 7)):
        (logits,) = session.run(["logits"], {"images": inputs[rows]})
        np.testing.assert_allclose(logits, expected[rows], atol=1e-4)


@pytest.fixture
def export(place, capsys):
    """Runs the command; returns what it printed."""

    def run(*arguments, code=0):
        capsys.readouterr()
        assert place.run("--export", *arguments) == code
        return capsys.readouterr()

    return run


@pytest.mark.slow
def test_each_model_is_exported_with_the_weights_of_its_lowest_seed(place, export):
    """And nothing of what PyTorch's exporter says is printed."""
    net = finished_cell(place.runs / "tiny", A, DIGITS, 3)
    finished_cell(place.runs / "tiny", A, DIGITS, 10)
    before = digests(place.folder)
    out, err = export()
    path = place.runs / "tiny" / "export" / "A.onnx"
    assert out == f"A, seed 3 (cpu-fp32), averaged weights: {path}\n" and err == "without weights here: B\n"
    assert digests(place.folder).keys() - before.keys() == {"runs/tiny/export/A.onnx"}
    assert_computes_the_same(path.read_bytes(), net, DIGITS)
    session = onnxruntime.InferenceSession(path)
    (images,), about = session.get_inputs(), session.get_modelmeta().custom_metadata_map
    assert images.shape[1:] == [1, 8, 8] and not isinstance(images.shape[0], int)
    assert tuple(json.loads(about["class_names"])) == DIGITS.class_names
    assert (json.loads(about["mean"]), json.loads(about["std"])) == ([DIGITS.mean[0]], [DIGITS.std[0]])
    plain = {
        "size": "8",
        "channels": "1",
        "colours": "grey",
        "layout": "NCHW",
        "fit": "crop",
        "seed": "3",
        "weights": "averaged",
    }
    assert plain.items() <= about.items()
    assert b".py" not in path.read_bytes()  # no path of this machine


IN_WORDS = {
    "averaged": "averaged weights",
    "last": "last weights",
    "best": "weights of the lowest validation loss",
}


@pytest.mark.slow
@pytest.mark.parametrize("weights", IN_WORDS)
def test_the_weights_that_are_named_are_exported(place, export, weights):
    """Into a folder of their own, so that no other program silently gets them in place of the usual ones."""
    finished_cell(place.runs / "tiny", A, DIGITS, 0)
    out, _ = export("--weights", weights)
    path = place.runs / "tiny" / "export" / weights / "A.onnx"
    assert out == f"A, seed 0 (cpu-fp32), {IN_WORDS[weights]}: {path}\n"
    assert_computes_the_same(path.read_bytes(), net_of(A, DIGITS, 0, weights), DIGITS)
    about = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert about["weights"] == weights


@pytest.mark.slow
def test_where_another_seed_has_no_averaged_weights_the_last_are_exported(place, export):
    finished_cell(place.runs / "tiny", A, DIGITS, 0)
    finished_cell(place.runs / "tiny", A, DIGITS, 1, old=True)
    out, _ = export()
    path = place.runs / "tiny" / "export" / "A.onnx"
    assert out.startswith("A, seed 0 (cpu-fp32), last weights, since not every run here has averaged ones: ")
    assert_computes_the_same(path.read_bytes(), net_of(A, DIGITS, 0, "last"), DIGITS)


def test_named_models_that_have_no_weights_are_refused(place, export):
    finished_cell(place.runs / "tiny", A, DIGITS, 0)
    assert "has no weights of B by this recipe; this trains them:" in export("--models", "A", "B", code=2).err
    assert "has no weights of A and B by this recipe" in export("--epochs", "1", code=2).err
    assert not (place.runs / "tiny" / "export").exists()


def test_a_quick_look_does_not_replace_the_real_thing(place, export):
    short = Experiment("A", A.model, task_1_1_mnist.TrainConfig(**vars(A.config) | {"epochs": 1}))
    finished_cell(place.runs / "tiny", short, DIGITS, 0)
    export("--epochs", "1")
    assert (place.runs / "quick/tiny/epochs=1/export/A.onnx").exists()
    assert not (place.runs / "tiny" / "export").exists()


def test_without_the_packages_one_sentence_says_what_to_install(place, export, monkeypatch):
    find_spec = util.find_spec
    monkeypatch.setattr(
        "utils.command.export.find_spec", lambda name: None if name == "onnxscript" else find_spec(name)
    )
    out, err = export(code=2)
    assert (out, err) == ("", "error: --export needs onnxscript: pip install onnxscript\n")


NET = """
from models import FCN

class Net(FCN):
    pass

class Lengthy(FCN):
    def forward(self, images):
        return super().forward(images * sum(images.flatten().tolist()))
"""


@pytest.mark.slow
def test_an_added_model_is_exported_and_one_that_cannot_be_is_named(place, export, tmp_path, monkeypatch):
    """A net that reads numbers out of its input is exported for one size of batch only: exit 1, the others go on."""
    file = tmp_path / f"net_of_{tmp_path.name}.py"
    file.write_text(NET)
    monkeypatch.setattr(sys, "path", list(sys.path))
    added = [f"{file}:{name}" for name in ("Lengthy", "Net")]
    for spec in added:
        name, model, source = load(spec)
        net = finished_cell(place.runs / "tiny", Experiment(name, model, B.config, source), DIGITS, 0)
    out, err = export("--add", *added, code=1)
    assert re.fullmatch(r"without weights here: A, B\nLengthy can't be exported: .+\n", err)
    assert out == f"Net, seed 0 (cpu-fp32), averaged weights: {place.runs / 'tiny/export/Net.onnx'}\n"
    assert_computes_the_same((place.runs / "tiny/export/Net.onnx").read_bytes(), net, DIGITS)


def trained(experiment, spec) -> Trained:
    net = EXECUTION.place(random_net(experiment, spec, seed=4))
    return Trained(
        name=experiment.name,
        records=(make_record(experiment.name, 4),),
        weights="averaged",
        nets=(net,),
        spec=spec,
        target=Target(spec.image_shape[1], spec.image_shape[0]),
        execution=EXECUTION,
    )


@pytest.mark.slow
def test_the_example_of_the_page_names_the_class(tmp_path, monkeypatch, capsys):
    """A photograph through the page's lines gives the class that the net itself gives."""
    experiment = task_1_2_cifar.EXPERIMENTS[0]
    model = trained(experiment, CIFAR10)
    photograph = tmp_path / "new1.jpg"
    Image.fromarray(load_sample_images().images[1]).save(photograph)
    (tmp_path / "CIFARCNN.onnx").write_bytes(onnx_bytes(model))
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLE, scope := {})
    probabilities = model.probabilities([photograph])[0, 0]
    assert capsys.readouterr().out == f"{CIFAR10.class_names[probabilities.argmax()]}\n"
    logits = scope["logits"][0]
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), probabilities, atol=0.02)


DECLARED = [(e, MNIST) for e in task_1_1_mnist.EXPERIMENTS] + [(e, CIFAR10) for e in task_1_2_cifar.EXPERIMENTS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "spec"), DECLARED, ids=[f"{experiment.name}-{spec.name}" for experiment, spec in DECLARED]
)
def test_every_declared_model_computes_the_same_as_onnx(experiment, spec):
    model = trained(experiment, spec)
    assert_computes_the_same(onnx_bytes(model), model.nets[0], spec)


@pytest.mark.slow
def test_a_librarys_net_that_enlarges_its_images_computes_the_same_as_onnx():
    name, classifier, source = load("torchvision:squeezenet1_1")
    model = trained(Experiment(name, classifier, B.config, source), DIGITS)
    assert enlargement(model.nets[0]) == "32 x 32"
    assert_computes_the_same(onnx_bytes(model), model.nets[0], DIGITS)
