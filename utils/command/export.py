"""`--export`: trained models as ONNX files, which other programs and languages run."""

import json
import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch

from utils.checkout import shown
from utils.command.plan import Plan
from utils.command.trained import Trained, in_use, load_model, runs_here, weights_of
from utils.files import file_name, write_atomically
from utils.streams import say, warn

NEEDED = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-4  # logits of PyTorch and of the file may differ by so much, and by so much of their size


def export_models(plan: Plan) -> int:
    """Write `<model>.onnx` for each model with weights here, those of its lowest seed; returns the exit code.

    Raises NoWeights, WeightsError and OSError.
    """
    if missing := [package for package in NEEDED if find_spec(package) is None]:
        warn(f"error: --export needs {' and '.join(missing)}: pip install {' '.join(missing)}")
        return 2
    runs, code = runs_here(plan), 0
    folder = (plan.output if plan.quick else plan.runs) / "export"  # a quick look must not replace the real thing
    if plan.use.weights:  # nor must weights that are asked for by name replace the usual ones
        folder /= plan.use.weights
    weights = {name: weights_of(plan, name, records) for name, records in runs.items()}
    for name, records in runs.items():
        model = load_model(plan, name, records[:1], weights[name])
        try:
            content = onnx_bytes(model)
            check(content, model)
        except Exception as error:  # of the exporter or of the model's own code; the other models go on
            warn(f"{name} can't be exported: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            code = 1
            continue
        path = folder / f"{file_name(name)}.onnx"
        write_atomically(path, content)
        say(f"{name}, seed {model.records[0].seed} ({model.records[0].kind}), {in_use(plan, model)}: {shown(path)}")
    return code


def onnx_bytes(model: Trained) -> bytes:
    """The ONNX file of the model's first net, which maps "images" (B, C, H, W) to "logits" (B, K), for any B.

    Its metadata say how images become its input, see `metadata`. The net goes to the CPU for it.
    """
    from onnx.helper import set_model_props

    net = model.nets[0].cpu()
    images = torch.zeros(2, *model.spec.image_shape)  # a batch of one would be taken for a fixed size
    with silence():
        program = torch.onnx.export(
            net,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    proto = program.model_proto  # a new one each time
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's notes, with paths of this machine
    set_model_props(proto, metadata(model))
    return proto.SerializeToString()


def check(content: bytes, model: Trained) -> None:
    """Raise ValueError unless the file computes what the net computes, for one image and for several."""
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).random((3, *model.spec.image_shape), np.float32)
    shape = (1, -1, 1, 1)
    images = (pixels - np.float32(model.spec.mean).reshape(shape)) / np.float32(model.spec.std).reshape(shape)
    for batch in (images[:1], images):
        (found,) = session.run(["logits"], {"images": batch})
        with torch.inference_mode():
            expected = model.nets[0](torch.from_numpy(batch)).numpy()
        if not np.allclose(found, expected, rtol=CLOSE, atol=CLOSE):
            raise ValueError(f"the file would differ from PyTorch by up to {abs(found - expected).max():.2g}")


def metadata(model: Trained) -> dict[str, str]:
    """What somebody who has only the file must know; lists are JSON."""
    (record,), target = model.records, model.target
    return {
        "class_names": json.dumps(model.class_names),
        "size": str(target.size),
        "channels": str(target.channels),
        "colours": "grey" if target.channels == 1 else "RGB",
        "layout": "NCHW",
        "fit": target.fit,
        "mean": json.dumps(model.spec.mean),
        "std": json.dumps(model.spec.std),
        "input": "(pixels / 255 - mean) / std, float32, of an image made square by `fit` and bicubic resampling",
        "output": "logits; softmax gives probabilities",
        "model": model.name,
        "seed": str(record.seed),
        "weights": model.weights,
        "data": model.spec.name,
        "config_hash": record.config_hash,
    }


@contextmanager
def silence():
    """Without what PyTorch's exporter tells its developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
