"""What a person sees during training: a progress bar on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
from contextlib import suppress

from tqdm import tqdm

from utils.streams import UNWRITABLE, on_terminal, warn
from utils.training.cell import CellJob


class Progress:
    """Shows the progress over the epochs of all cells. A context manager; call `epoch_done` after each epoch.

    Errors in printing are ignored: a closed pipe, or a log file on a full disk, must not end the training.
    """

    def __init__(self, jobs: list[CellJob], quiet: bool):
        self.epochs_done = dict.fromkeys((job.stem for job in jobs), 0)
        self.quiet = quiet
        self.plain = not quiet and not on_terminal()
        # Restored epochs count too: `fit` reports them at once when it resumes.
        total = sum(job.experiment.config.epochs for job in jobs)
        self.bar = tqdm(total=total, unit="epoch", disable=quiet or self.plain, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        with suppress(*UNWRITABLE):
            self.bar.close()

    def epoch_done(self, job: CellJob, entry: dict) -> None:
        """Show one more epoch of `job`, with its history entry `entry`."""
        self.epochs_done[job.stem] += 1
        text = (
            f"{job.experiment.name} seed {job.seed} epoch {self.epochs_done[job.stem]}/{job.experiment.config.epochs} "
            f"train {entry['train_loss']:.4f} val {entry['val_loss']:.4f} accuracy {entry['val_accuracy']:.2%}"
        )
        with suppress(*UNWRITABLE):
            self.bar.set_description(text, refresh=False)
            self.bar.update()
        if self.plain:
            self.say(f"{text}  {entry['train_seconds'] + entry['eval_seconds']:.1f} s")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.plain:
            warn(text)
        elif not self.quiet:
            with suppress(*UNWRITABLE):
                self.bar.write(text, file=sys.stderr)
