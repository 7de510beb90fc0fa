"""Gradient flow: the size of the gradient that reaches each layer, recorded during training."""

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

UPDATE_RATIO_EVERY = 10  # steps: it needs a copy of the weights, which would slow every step down


class GradientFlow:
    """A context manager that records the gradients of `model` by hooks on the optimiser's step.

    At every step it records the L2 norm of the gradient of each parameter. The norms of all parameters are taken, so
    that a gradient that is not finite is found wherever it arises. At every 10th step it also records the update ratio
    ||w_after - w_before|| / ||w_before|| of each weight tensor of a convolution or linear layer. `weight_names` lists
    these tensors in the order of definition, which in our models is the order of the forward pass.

    The values stay in buffers on the device, with room for `steps` steps, until `read` fetches them once an epoch:
    fetching them at every step would make the CPU wait for the device. On exit the hooks are removed, also after an
    exception. Every parameter must have a gradient at every step.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, steps: int):
        layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        self.weight_names = [f"{name}.weight" for name, _ in layers]
        self.weights = [module.weight for _, module in layers]
        # `norms` has a column for every parameter; reports show only those of `weight_names`.
        names = [name for name, _ in model.named_parameters()]
        self.columns = [names.index(name) for name in self.weight_names]
        self.parameters = list(model.parameters())
        self.optimizer = optimizer
        device = self.parameters[0].device
        self.norms = torch.zeros(steps, len(self.parameters), device=device)
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
        # _foreach functions handle all tensors in one kernel launch; a loop over parameters would be slow on a GPU.
        torch.stack(torch._foreach_norm([p.grad for p in self.parameters]), out=self.norms[self.step])
        if self.step % UPDATE_RATIO_EVERY == 0:
            row = self.step // UPDATE_RATIO_EVERY
            torch._foreach_copy_(self.scratch, self.weights)
            torch.stack(torch._foreach_norm(self.scratch), out=self.update_ratios[row])  # ||w||; divided below

    @torch.no_grad()
    def _after_step(self, *_) -> None:
        if self.step % UPDATE_RATIO_EVERY == 0:
            row = self.update_ratios[self.step // UPDATE_RATIO_EVERY]
            torch._foreach_sub_(self.scratch, self.weights)
            torch.div(torch.stack(torch._foreach_norm(self.scratch)), row, out=row)
        self.step += 1

    def read(self) -> dict[str, np.ndarray]:
        """Return this epoch's arrays and start the next epoch.

        `norms` (steps, W) and `update_ratios` (steps / 10 rounded up, W) are float32, for the W weights of
        `weight_names`. `finite` (steps,) is bool: whether all gradients of that step were finite.
        """
        norms, ratios = self.norms[: self.step].cpu(), -(-self.step // UPDATE_RATIO_EVERY)
        self.step = 0
        return {
            "norms": norms[:, self.columns].numpy(),
            "update_ratios": self.update_ratios[:ratios].cpu().numpy().copy(),
            "finite": norms.isfinite().all(dim=1).numpy(),
        }
