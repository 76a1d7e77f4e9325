"""What every command does alike: errors of one line, exit status, signals."""

import argparse
import contextlib
import io
import os
import signal
import sys
import threading


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {printable(message)}; see --help\n")


def printable(text):
    """Return str(text) with what is no printable character written as an escape.

    Names in files and of files may hold new lines, or codes that a terminal obeys.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )


class InputError(ValueError):
    """An input that can't be used; its text names input, problem and remedy."""

    status = 2


class RunError(RuntimeError):
    """Work that can't go on; what it had saved is kept."""

    status = 1


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by a signal, with all its work saved."""

    def __init__(self, signum, message):
        super().__init__(message)
        self.status = 128 + signum


@contextlib.contextmanager
def noted_signals(note):
    """Call note(signum) on the first Ctrl-C or SIGTERM; the second ends the process.

    A signal that was ignored (as under nohup) stays ignored.
    """
    previous = {}

    def handle(signum, frame):
        for other in previous:
            signal.signal(other, signal.SIG_DFL)
        note(signum)

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) != signal.SIG_IGN:
                previous[signum] = signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def check_system():
    """Raise InputError on Windows itself, which lacks the locks that runs need."""
    if sys.platform == "win32":
        raise InputError("does not run on Windows itself; start it in WSL 2 (Linux)")


def run_script(name, work):
    """Call work() and return the exit status.

    That is 0, or after a line on stderr: 2 for an InputError, 1 for a RunError or an
    OSError, 130 for Ctrl-C. What stdout can't encode in a name is written as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")
    try:
        check_system()
        work()
    except (InputError, RunError, KeyboardInterrupt) as error:
        print(f"{name}: {printable(error) or 'interrupted'}", file=sys.stderr)
        return getattr(error, "status", 130)
    except BrokenPipeError:
        # the reader of a pipe has gone; nor can Python flush stdout at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{name}: {printable(error)}", file=sys.stderr)
        return 1
    return 0
