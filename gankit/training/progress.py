"""A run's progress on the screen."""

import datetime
import time


class Progress:
    """Shows each step's figures: a line a step, or one line kept up to date.

    describe: a step's figures -> text.
    """

    def __init__(self, verbose, describe):
        self._verbose, self._describe, self._open = verbose, describe, False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end_line()

    def begin(self, first_step, last_step):
        self._first, self._last = first_step, last_step
        self._started = time.perf_counter()

    def show(self, step, figures):
        if self._verbose == 2:
            print(f">{step}, {self._describe(figures)}", flush=True)
        elif self._verbose == 1:
            done = step * 20 // self._last
            bar = "#" * done + "." * (20 - done)
            per_step = (time.perf_counter() - self._started) / (step - self._first)
            left = datetime.timedelta(seconds=round(per_step * (self._last - step)))
            line = f">{step}/{self._last} [{bar}] {self._describe(figures)}"
            print(f"\r{f'{line}, {left} left':<79}", end="", flush=True)
            self._open = True

    def end_line(self):
        if self._open:
            print()
        self._open = False
