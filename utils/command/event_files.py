"""`--tensorboard`: an event file of each run, which TensorBoard shows while training goes on and afterwards."""

import warnings
from collections.abc import Callable

from torch import nn
from torch.utils.tensorboard import SummaryWriter

from utils.experiment import TrainConfig
from utils.streams import warn
from utils.training.cell import CellJob
from utils.training.fit import make_optimizer, make_schedule


class EventFiles:
    """Writes losses, accuracies and learning rate of each run into the run's folder. A context manager.

    `steps` is the number of training steps of an epoch, by a recipe. An error in writing is printed once and never ends
    the training.
    """

    def __init__(self, steps: Callable[[TrainConfig], int]):
        self.steps = steps
        self.writers: dict[str, SummaryWriter] = {}
        self.rates: dict[str, list[float]] = {}  # those that remain of a run
        self.failed = False

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, *exception) -> None:
        for writer in self.writers.values():
            writer.close()

    def epoch_done(self, job: CellJob, entry: dict) -> None:
        """Write the history entry of one more epoch of `job`; restored epochs come again, and replace themselves."""
        if self.failed:
            return
        try:
            self._write(job, entry)
        except Exception as error:
            warn(f"warning: nothing more is written for TensorBoard ({type(error).__name__}: {error})")
            self.failed = True

    def _write(self, job: CellJob, entry: dict) -> None:
        config = job.experiment.config
        if job.stem not in self.writers:
            # Epochs of an earlier start of the run are hidden: they come again.
            self.writers[job.stem] = SummaryWriter(str(job.folder), purge_step=1)
            self.rates[job.stem] = learning_rates(config, self.steps(config))
        writer, rates = self.writers[job.stem], self.rates[job.stem]
        epoch = config.epochs - len(rates) + 1
        writer.add_scalar("learning rate", rates.pop(0), epoch)
        for what in ("loss", "accuracy"):
            for part in ("train", "fit", "val"):
                writer.add_scalar(f"{what}/{part}", entry[f"{part}_{what}"], epoch)
        writer.flush()


def learning_rates(config: TrainConfig, steps: int) -> list[float]:
    """The learning rate of the last step of each epoch, with `steps` steps an epoch."""
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    schedule = make_schedule(optimizer, config, steps)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch misses the steps of the optimiser
        for _ in range(config.epochs):
            for _ in range(steps):
                rate = schedule.get_last_lr()[0]
                schedule.step()
            rates.append(rate)
    return rates
