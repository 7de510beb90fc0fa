"""Whether another process still lives: it changes something now and then, and here it is watched. Never loads torch."""

import threading
import time
from collections.abc import Callable


class Beats:
    """Calls `beat` now and every `seconds` in a thread of its own, until it is stopped or `beat` raises `ends_with`."""

    def __init__(self, beat: Callable[[], object], seconds: float, ends_with: type[Exception] | tuple[()] = ()):
        self._beat, self._seconds, self._ends_with = beat, seconds, ends_with
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._beat()
            while not self._stopped.wait(self._seconds):
                self._beat()
        except self._ends_with:
            pass  # whoever works here finds it out by its own next step

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


class Pulse:
    """When something was last seen to change, by this process's own clock: those of two machines may differ."""

    def __init__(self):
        self._seen: object = None
        self._since = time.monotonic()

    def silent_for(self, value: object) -> float:
        """Seconds since `value`, which is what it is now, was first seen."""
        if value != self._seen:
            self._seen, self._since = value, time.monotonic()
        return time.monotonic() - self._since
