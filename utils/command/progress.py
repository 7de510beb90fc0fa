"""What a person sees during training: a progress bar on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from contextlib import suppress

from tqdm import tqdm

from utils.command.schedule import Forecast
from utils.streams import UNWRITABLE, on_terminal, warn
from utils.training.cell import CellJob
from utils.words import duration

BAR = "{desc} |{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}{postfix}]"


class Progress:
    """Shows the progress over the epochs of all cells. A context manager; call `epoch_done` after each epoch.

    The time left comes from `expected`, corrected by how long the work that is done took beside what was expected: an
    epoch of one model can take fifty times as long as that of another.

    Errors in printing are ignored: a closed pipe, or a log file on a full disk, must not end the training.
    """

    def __init__(self, jobs: list[CellJob], expected: Forecast, quiet: bool):
        self.jobs = jobs
        self.epochs_done = dict.fromkeys((job.stem for job in jobs), 0)
        self.restored = {job.stem: job.checkpoints.epoch() for job in jobs}
        self.expected, self.left = expected, dict(expected.cells)
        self.started = time.monotonic()
        self.quiet = quiet
        self.plain = not quiet and not on_terminal()
        # Restored epochs count too: `fit` reports them at once when it resumes.
        total = sum(job.experiment.config.epochs for job in jobs)
        self.bar = tqdm(total=total, disable=quiet or self.plain, dynamic_ncols=True, bar_format=BAR)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        with suppress(*UNWRITABLE):
            self.bar.close()

    def epoch_done(self, job: CellJob, entry: dict) -> None:
        """Show one more epoch of `job`, with its history entry `entry`."""
        self.epochs_done[job.stem] += 1
        epoch, epochs, restored = self.epochs_done[job.stem], job.experiment.config.epochs, self.restored[job.stem]
        self.left[job.stem] = self.expected.cells[job.stem] * min(1, (epochs - epoch) / (epochs - restored or 1))
        text = (
            f"{job.experiment.name} seed {job.seed} epoch {epoch}/{epochs} "
            f"train {entry['train_loss']:.4f} val {entry['val_loss']:.4f} accuracy {entry['val_accuracy']:.2%}"
        )
        left = self.time_left()
        with suppress(*UNWRITABLE):
            self.bar.set_description(text, refresh=False)
            self.bar.set_postfix_str(left, refresh=False)
            self.bar.update()
        if self.plain:
            took = f"{entry['train_seconds'] + entry['eval_seconds']:.1f} s"
            self.say(f"{text}  {', '.join(filter(None, [took, left]))}")

    def cell_done(self, stem: str) -> None:
        """Note that a cell has ended, perhaps before its last epoch."""
        self.left[stem] = 0

    def ended_elsewhere(self, job: CellJob) -> None:
        """Note that another command has trained the rest of `job`."""
        self.cell_done(job.stem)
        rest = job.experiment.config.epochs - self.epochs_done[job.stem]
        self.epochs_done[job.stem] += rest
        with suppress(*UNWRITABLE):
            self.bar.update(rest)
        self.say(f"{job.stem} was trained elsewhere")

    def time_left(self) -> str:
        """About how long it takes until everything is drawn and timed, such as "12 min left"; "" if not yet known."""
        expected, left = sum(self.expected.cells.values()), sum(self.left.values())
        if left >= expected:  # so far only restored epochs, which take no time
            return ""
        pace = (time.monotonic() - self.started) / (expected - left)
        return f"{duration(pace * left + self.expected.drawing + self.expected.timing)} left"

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.plain:
            warn(text)
        elif not self.quiet:
            with suppress(*UNWRITABLE):
                self.bar.write(text, file=sys.stderr)
