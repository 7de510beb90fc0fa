"""Gradient flow: what reaches each layer, recorded on the device by hooks on the optimiser's step."""

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

UPDATE_RATIO_EVERY = 10  # steps


class GradientFlow:
    """A context manager that records each step's gradients of a model into device buffers, read once an epoch.

    Every step: the L2 norm of each parameter's gradient, so that a non-finite one is found wherever it arises.
    Every 10th step, for the weights of convolutions and linear layers: the update ratio
    ||w_after - w_before|| / ||w_before||. `weight_names` lists these weights in the order of
    definition, which in our models is that of the forward pass. The hooks are gone on exit, also after an
    exception. All of a parameter's gradients must exist at each step.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: int):
        layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        self.weight_names = [f"{name}.weight" for name, _ in layers]
        self.weights = [module.weight for _, module in layers]
        names = [name for name, _ in model.named_parameters()]
        self.columns = [names.index(name) for name in self.weight_names]
        self.parameters = list(model.parameters())
        self.optimizer = optimizer
        device = self.parameters[0].device
        self.norms = torch.zeros(steps, len(self.parameters), device=device)
        self.update_ratios = torch.zeros(-(-steps // UPDATE_RATIO_EVERY), len(self.weights), device=device)
        self.scratch = [torch.empty_like(w) for w in self.weights]  # kept: a new allocation costs more than the sum
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
        torch.stack(torch._foreach_norm([p.grad for p in self.parameters]), out=self.norms[self.step])
        if self.step % UPDATE_RATIO_EVERY == 0:
            row = self.step // UPDATE_RATIO_EVERY
            torch._foreach_copy_(self.scratch, self.weights)
            torch.stack(torch._foreach_norm(self.scratch), out=self.update_ratios[row])  # ||w||, until the step is done

    @torch.no_grad()
    def _after_step(self, *_) -> None:
        if self.step % UPDATE_RATIO_EVERY == 0:
            row = self.update_ratios[self.step // UPDATE_RATIO_EVERY]
            torch._foreach_sub_(self.scratch, self.weights)
            torch.div(torch.stack(torch._foreach_norm(self.scratch)), row, out=row)
        self.step += 1

    def read(self) -> dict[str, np.ndarray]:
        """This epoch's arrays, and start again: `norms` (steps, weights) and `update_ratios` (steps / 10, weights),
        float32, and `finite` (steps,) bool: all gradients of that step were finite."""
        norms, ratios = self.norms[: self.step].cpu(), -(-self.step // UPDATE_RATIO_EVERY)
        self.step = 0
        return {
            "norms": norms[:, self.columns].numpy(),
            "update_ratios": self.update_ratios[:ratios].cpu().numpy().copy(),
            "finite": norms.isfinite().all(dim=1).numpy(),
        }
