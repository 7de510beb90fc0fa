"""main(): a task script's whole command line. What each step does stands in `utils.command`."""

import shlex
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from utils.command.arguments import parse
from utils.experiment import Task


def main(task: Task) -> NoReturn:
    """Run a task's command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run(task))


def run(task: Task, argv: Sequence[str] | None = None) -> int:
    """Everything that a command does; returns the exit code."""
    options = parse(task, argv)
    # Imported only now: bad usage is answered before SciPy, scikit-learn and matplotlib are loaded.
    from utils.command.plan import make_plan

    try:
        plan = make_plan(task, options)
    except ValueError as error:
        return failed(error, 2)
    from utils.command.locks import FolderInUse
    from utils.command.steps import redraw, train_and_draw
    from utils.data.specs import DataError
    from utils.records.record import RecordError
    from utils.training.checkpoint import CheckpointError

    try:
        return redraw(plan) if plan.redraws else train_and_draw(plan)
    except (FolderInUse, CheckpointError, RecordError) as error:
        return failed(error, 2)
    except (DataError, OSError) as error:
        return failed(error, 1)
    except (KeyboardInterrupt, SystemExit) as end:  # the latter by SIGTERM
        command = shlex.join(["python", *(word for word in sys.argv if word != "--no-resume")])
        print(f"\nInterrupted. What had finished is kept; to go on from there:\n  {command}", file=sys.stderr)
        return 130 if isinstance(end, KeyboardInterrupt) else end.code


def failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
