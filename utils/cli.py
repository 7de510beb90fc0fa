"""main(): a task script's whole command line. What each step does stands in `utils.command`."""

import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from utils.command.arguments import parse
from utils.experiment import Task
from utils.streams import close_streams, prepare_streams, warn


def main(task: Task) -> NoReturn:
    """Run a task's command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 terminated."""
    # A cell's process loads the script for its models, before multiprocessing.parent_process() is set there.
    if multiprocessing.current_process().name != "MainProcess":
        warn(
            f'error: {sys.argv[0]} must call main() under `if __name__ == "__main__":`, since every run loads it again'
        )
        sys.exit(2)
    if threading.current_thread() is threading.main_thread():  # which alone may handle signals
        # As an exception, SIGTERM unwinds the stack like Ctrl-C: processes end, locks are released, results are drawn.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["MPLBACKEND"] = "agg"  # matplotlib can't be imported while this names a backend that isn't installed
    code = run(task)
    close_streams()
    sys.exit(code)


def run(task: Task, argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks and return the exit code; `argv` stands in for sys.argv[1:]."""
    prepare_streams()
    options = parse(task, argv)
    if (bound := os.environ.get("OMP_PROC_BIND", "false")).lower() != "false":
        warn(f"warning: OMP_PROC_BIND={bound} ties this process to one core; unset it to use all of them")
    # Imported only now, so that a wrong option is reported at once: SciPy, scikit-learn and matplotlib load slowly.
    from utils.command.plan import make_plan
    from utils.command.use import NoWeights

    try:
        plan = make_plan(task, options)
    except NoWeights as error:
        return untrained(error)
    except ValueError as error:
        return failed(error, 2)
    except OSError as error:
        return failed(error, 1)
    except KeyboardInterrupt as end:  # a large folder of images takes minutes to read
        return interrupted(end)
    from utils.command.export import export_models
    from utils.command.locks import FolderInUse
    from utils.command.predict import predict_images
    from utils.command.preflight import ModelError
    from utils.command.ranks import CantFollow, follow
    from utils.command.session import RankLost
    from utils.command.shared import share
    from utils.command.steps import lead, redraw, train_and_draw
    from utils.command.trained import WeightsError
    from utils.data.specs import DataError
    from utils.records.record import RecordError
    from utils.training.checkpoint import CheckpointError
    from utils.training.device import DeviceLost

    try:
        if plan.world and plan.world.rank:
            return follow(plan)
        if plan.use:
            return predict_images(plan) if plan.use.paths else export_models(plan)
        if plan.shared:
            return share(plan)
        return redraw(plan) if plan.redraws else lead(plan) if plan.world else train_and_draw(plan)
    except NoWeights as error:
        return untrained(error)
    except (CantFollow, FolderInUse, CheckpointError, ModelError, RecordError, WeightsError) as error:
        return failed(error, 2)
    except (DataError, OSError) as error:
        return failed(error, 1)
    except RankLost as error:
        return failed(f"{error}. Finished runs and checkpoints are kept; the same command again goes on", 1)
    except DeviceLost as error:
        return failed(f"{error}. Finished runs and checkpoints are kept. To resume:\n  {resume_command()}", 1)
    except (KeyboardInterrupt, SystemExit) as end:  # SystemExit comes from SIGTERM, see `main`
        return interrupted(end)


def interrupted(end: KeyboardInterrupt | SystemExit) -> int:
    """Say how to go on; returns the exit code."""
    warn(f"\nInterrupted. Finished runs and checkpoints are kept. To resume:\n  {resume_command()}")
    return 130 if isinstance(end, KeyboardInterrupt) else end.code


def resume_command() -> str:
    """This command without --no-resume, which would throw away the checkpoints that it is to resume from."""
    return shlex.join(["python", *(word for word in sys.argv if word != "--no-resume")])


def untrained(error: Exception) -> int:
    """Say which command trains what is missing; returns the exit code."""
    words, option = [], ""
    for word in sys.argv:
        option = word.partition("=")[0] if word.startswith("-") else option
        if option not in ("--predict", "--csv", "--export", "--kind", "--weights"):
            words.append(word)
    return failed(f"{error}; this trains them:\n  {shlex.join(['python', *words])}", 2)


def failed(error: Exception | str, code: int) -> int:
    warn(f"error: {error}")
    return code
