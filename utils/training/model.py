"""Building a model from a seed; its parameter shapes, its FLOPs, and whether it keeps the contract of a classifier."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from utils.data.images import Splits
from utils.experiment import Experiment
from utils.training.averaging import reestimate_statistics
from utils.training.device import Execution
from utils.training.predict import predict
from utils.training.seeds import seed_model

SMALLEST_BATCH = 2  # batch normalisation needs two examples


def build_model(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """The experiment's network with the initial weights of `seed`, for images of shape (C, H, W).

    Raises ValueError if the network can't take images of that shape.
    """
    seed_model(seed, "initialisation")
    model = experiment.model(image_shape=image_shape, num_classes=num_classes)
    if any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        with torch.no_grad():
            model.eval()(torch.zeros(SMALLEST_BATCH, *image_shape))  # lazy layers take their shapes from an input
    return model


def parameter_shapes(experiment: Experiment, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, tuple]:
    """{name: shape} of the experiment's parameters. Raises ValueError as `build_model` does."""
    try:
        # On the meta device tensors have shapes but no values, so nothing is allocated and no random number drawn.
        with torch.device("meta"):
            model = experiment.model(image_shape=image_shape, num_classes=num_classes)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    except Exception:
        # It needs values to be built, such as one that calls .item(), or has lazy layers.
        model = build_model(experiment, image_shape, num_classes, seed=0)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return shapes


def flops_per_image(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of the forward pass of one image, counted by torch.utils.flop_counter; a multiply-add counts as 2.

    Leaves the model in evaluation mode, in which a forward pass changes no batch statistics.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape, device=device))
    return counter.get_total_flops()


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had too little memory. On a CPU and on MPS that is a RuntimeError like any other."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error) or "out of memory" in str(error)


def broken_contract(experiment: Experiment, data: Splits, execution: Execution) -> str:
    """What keeps a throwaway model of the experiment from being trained; "" if nothing does.

    It is built, placed on the device, and given one real batch, forward in both modes and backward. Then it predicts,
    its batch-norm statistics are re-estimated, and its state is loaded, as at the end of a run. Running out of memory
    is no fault of the contract: a cell of its own finds that out.
    """
    images, labels = next(data.train.batches(min(experiment.config.batch_size, len(data.train))))
    expected = (len(images), data.num_classes)
    try:
        model = execution.place(build_model(experiment, data.image_shape, data.num_classes, seed=0))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return "it has no parameter to train"
        for training in (False, True):
            with execution.autocast():
                logits = model.train(training)(images)
            if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
                found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
                return f"for images {tuple(images.shape)} it returns {found}, not logits {expected}"
            if not logits.isfinite().all():
                return "its logits of the first batch are not all finite numbers"
        F.cross_entropy(logits.float(), labels).backward()
        if all(parameter.grad is None for parameter in model.parameters()):
            return "its logits depend on no parameter that is trained"
        state = model.state_dict()
        if lost := [name for name, _ in model.named_parameters(remove_duplicate=False) if name not in state]:
            return f"its state_dict() lacks {', '.join(lost)}"
        # What happens at a run's end should fail now rather than then.
        few = data.fit.first(len(images))
        predict(model, few, execution)
        reestimate_statistics(model, few, execution, seed=0)
        model.load_state_dict(state)
    except Exception as error:
        if is_out_of_memory(error):
            return ""
        reason = " ".join(str(error).split())
        return f"for images {tuple(images.shape)}: {type(error).__name__}: {reason[:300]}"
    return ""
