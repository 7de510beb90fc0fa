"""Scripts that tests run in a process of their own."""

SCRIPT = """
import signal
from functools import partial
from models import FCN
from utils.training import checkpoint
from utils.cli import main
from utils.experiment import Experiment, Task, TrainConfig
checkpoint.LEAST_SECONDS = 0.0
recipe = TrainConfig(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.05)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal: jobs in the background ignore it
    main(Task("tiny", "mnist", [Experiment(name, partial(FCN), recipe) for name in "AB"]))
"""
