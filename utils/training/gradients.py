"""Gradient flow: the size of the gradient that reaches each layer, recorded during training."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

UPDATE_RATIO_EVERY = 10  # steps: it needs a copy of the weights, which would slow every step down


def weight_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """{name: parameter} of the weight tensor of each convolution and linear layer that is trained, in definition order.

    That is the largest parameter of the layer with two axes or more: with a parametrisation such as `weight_norm` the
    weight is computed from it. A tensor that layers share counts once. Of a model without such layers, all trained
    parameters with two axes or more.
    """
    found: dict[str, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            matrices = [(n, p) for n, p in module.named_parameters(prefix) if p.ndim > 1]
            if matrices:
                name, weight = max(matrices, key=lambda pair: pair[1].numel())
                found[name] = weight
    found = found or {name: p for name, p in model.named_parameters() if p.ndim > 1}
    first = {id(p): name for name, p in reversed(found.items())}
    return {name: p for name, p in found.items() if p.requires_grad and first[id(p)] == name}


class GradientFlow:
    """A context manager that records the gradients of `model` by hooks on the optimiser's step.

    At every step it records the L2 norm of the gradient of each trained parameter. The norms of all are taken, so that
    a gradient that is not finite is found wherever it arises; NaN stands for a parameter that the step didn't reach. At
    every 10th step it also records the update ratio ||w_after - w_before|| / ||w_before|| of each of `weight_tensors`.
    `weight_names` lists these in the order of definition, which in our models is the order of the forward pass.

    The values stay in buffers on the device, with room for `steps` steps, until `read` fetches them once an epoch:
    fetching them at every step would make the CPU wait for the device. On exit the hooks are removed, also after an
    exception.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: int):
        weights = weight_tensors(model)
        self.weight_names, self.weights = list(weights), list(weights.values())
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        # `norms` has a column for every parameter; reports show only those of `weight_names`.
        places = {id(p): column for column, p in enumerate(self.parameters)}
        self.columns = [places[id(weight)] for weight in self.weights]
        self.optimizer = optimizer
        device = self.parameters[0].device
        self.norms = torch.zeros(steps, len(self.parameters), device=device)
        self.reached = np.ones((steps, len(self.parameters)), dtype=bool)
        # -(-a // b) rounds a / b up: with 25 steps, ratios are recorded at steps 0, 10 and 20.
        self.update_ratios = torch.zeros(-(-steps // UPDATE_RATIO_EVERY), len(self.weights), device=device)
        self.scratch = [torch.empty_like(w) for w in self.weights]  # reused: a new allocation costs more than the copy
        self.step = 0

    def __enter__(self) -> "GradientFlow":
        self.hooks = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        return self

    def __exit__(self, *exception) -> None:
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def _before_step(self, *_) -> None:
        gradients = [p.grad for p in self.parameters]
        # _foreach functions handle all tensors in one kernel launch; a loop over parameters would be slow on a GPU.
        norms: list[Tensor] = list(torch._foreach_norm([g for g in gradients if g is not None]))
        if len(norms) < len(gradients):
            self.reached[self.step] = [g is not None for g in gradients]
            there = iter(norms)
            none = torch.zeros((), device=self.norms.device)
            norms = [none if g is None else next(there) for g in gradients]
        torch.stack(norms, out=self.norms[self.step])
        if self.step % UPDATE_RATIO_EVERY == 0 and self.weights:
            row = self.step // UPDATE_RATIO_EVERY
            torch._foreach_copy_(self.scratch, self.weights)
            torch.stack(torch._foreach_norm(self.scratch), out=self.update_ratios[row])  # ||w||; divided below

    @torch.no_grad()
    def _after_step(self, *_) -> None:
        if self.step % UPDATE_RATIO_EVERY == 0 and self.weights:
            row = self.update_ratios[self.step // UPDATE_RATIO_EVERY]
            torch._foreach_sub_(self.scratch, self.weights)
            torch.div(torch.stack(torch._foreach_norm(self.scratch)), row, out=row)
        self.step += 1

    def read(self) -> dict[str, np.ndarray]:
        """Return this epoch's arrays and start the next epoch.

        `norms` (steps, W) and `update_ratios` (steps / 10 rounded up, W) are float32, for the W weights of
        `weight_names`; a norm is NaN where the step didn't reach the weight. `finite` (steps,) is bool: whether all
        gradients of that step were finite.
        """
        norms, ratios = self.norms[: self.step].cpu(), -(-self.step // UPDATE_RATIO_EVERY)
        reached = self.reached[: self.step].copy()
        self.reached[:] = True
        self.step = 0
        return {
            "norms": np.where(reached[:, self.columns], norms[:, self.columns].numpy(), np.float32(np.nan)),
            "update_ratios": self.update_ratios[:ratios].cpu().numpy().copy(),
            "finite": norms.isfinite().all(dim=1).numpy(),
        }
