"""A run's progress on the screen."""

import datetime
import shutil
import time


class Progress:
    """Shows each step's figures: a line a step, or one line kept up to date.

    verbose: 0, 1 or 2. describe: a step's figures -> text.
    """

    def __init__(self, verbose, describe):
        self._verbose, self._describe, self._shown = verbose, describe, 0

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
            per_step = (time.perf_counter() - self._started) / (step - self._first)
            left = datetime.timedelta(seconds=round(per_step * (self._last - step)))
            # the last column stays free: a terminal may wrap when it is filled
            width = shutil.get_terminal_size().columns - 1
            line = progress_line(step, self._last, self._describe(figures), left, width)
            print(f"\r{line:{min(self._shown, width)}}", end="", flush=True)
            self._shown = len(line)

    def end_line(self):
        if self._shown:
            print()
        self._shown = 0


def progress_line(step, last_step, text, left, width):
    """Return a line of at most `width` characters.

    Where it is too narrow for all, the bar goes first, then the figures; the time
    left stays as long as it can.
    """
    done = step * 20 // last_step
    place, ending = f">{step}/{last_step}", f"{left} left"
    bar = f"[{'#' * done}{'.' * (20 - done)}]"
    for line in (
        f"{place} {bar} {text}, {ending}",
        f"{place} {text}, {ending}",
        f"{place} {bar} {ending}",
    ):
        if len(line) <= width:
            return line
    return f"{place} {ending}"[: max(0, width)]
