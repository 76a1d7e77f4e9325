import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gankit import command
from parts import default_signals

ROOT = Path(__file__).resolve().parents[2]


def run_code(code, *arguments, **environment):
    """Run Python code in a process whose output has the encoding of its environment.

    Returns exit status, stdout and stderr, as bytes.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        timeout=120,
        preexec_fn=default_signals,
    )
    return done.returncode, done.stdout, done.stderr


def script(body):
    """Code that does `body` under run_script."""
    return (
        "import os, sys\n"
        "from gankit.command import InputError, RunError, run_script\n"
        f"def work():\n    {body}\n"
        "sys.exit(run_script('a.py', work))\n"
    )


# ---------------------------------------------------------------- exit status


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("pass", 0, ""),
        (
            "raise InputError('a: is wrong; give another')",
            2,
            "a: is wrong; give another",
        ),
        ("raise InputError('two\\nlines\\x1b')", 2, r"two\nlines\x1b"),
        ("raise RunError('stopped')", 1, "stopped"),
        ("open('/no/such/file')", 1, "No such file or directory: '/no/such/file'"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("os.kill(os.getpid(), 2)", 130, "interrupted"),
    ],
)
def test_a_failure_is_one_line_and_a_status(body, status, line):
    done, out, error = run_code(script(body))
    assert (done, out) == (status, b"")
    if line:
        assert error.startswith(b"a.py: ") and error.endswith(line.encode() + b"\n")
    assert error.count(b"\n") == bool(line)


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command.run_script("a.py", lambda: 1 / 0)


def test_the_reader_of_a_pipe_may_go():
    process = subprocess.Popen(
        [sys.executable, "-c", script("while True: print('line')")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 1)


def test_errors_of_options_are_one_line(capsys):
    parser = command.OneLineParser(prog="a.py")
    parser.add_argument("--n", type=int)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--n", "two\nlines"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("a.py: argument --n: ") and error.count("\n") == 1
    assert error.endswith("; see --help\n")


def test_windows_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    done = []
    assert command.run_script("a.py", lambda: done.append(1)) == 2 and not done
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "a.py: does not run on Windows itself; start it in WSL 2 (Linux)\n"
    )


# ---------------------------------------------------------------- names


LATIN = {"PYTHONIOENCODING": "latin-1"}
# UTF-8 mode and C.UTF-8 would take the place of an ASCII locale
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "模型 é".encode()),
        ({"PYTHONIOENCODING": "cp1252"}, b"\\u6a21\\u578b \xe9"),
        (LATIN, b"\\u6a21\\u578b \xe9"),
        ({"PYTHONIOENCODING": "ascii:strict"}, b"\\u6a21\\u578b \\xe9"),
        (ASCII, b"\\u6a21\\u578b \\xe9"),
    ],
)
def test_names_are_printed_whatever_the_encoding(environment, printed):
    body = "print('模型 é'); raise InputError('模型 é')"
    status, out, error = run_code(
        script(body).encode("unicode_escape").decode().replace("\\n", "\n"),
        **environment,
    )
    assert (status, out, error) == (2, printed + b"\n", b"a.py: " + printed + b"\n")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "utf-8"}, LATIN, ASCII])
def test_a_name_of_other_bytes_is_printed(environment):
    name = os.fsdecode(b"runs/\xff")
    body = "print(sys.argv[1]); raise InputError(sys.argv[1])"
    status, out, error = run_code(script(body), name, **environment)
    assert (status, out) == (2, b"runs/\\udcff\n")
    assert error == b"a.py: runs/\\udcff\n"


def test_a_script_names_a_file_that_the_terminal_cannot(tmp_path):
    path = "/no/such/模型.keras"
    code = "import load_classifier, sys; sys.exit(load_classifier.main(sys.argv[1:]))"
    status, out, error = run_code(code, path, PYTHONIOENCODING="cp1252")
    assert (status, out) == (2, b"") and error.count(b"\n") == 1
    assert error.startswith(b"load_classifier.py: /no/such/\\u6a21\\u578b.keras: ")


@pytest.mark.parametrize("stdout", [None, io.StringIO()])
def test_an_output_that_is_no_file(stdout, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stdout)
    assert command.run_script("a.py", lambda: print("模型")) == 0
    assert stdout is None or stdout.getvalue() == "模型\n"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a b é 模型", "a b é 模型"),
        ("a\nb\t\x1b[31m", r"a\nb\t\x1b[31m"),
        ("\u202eab", r"\u202eab"),
        ("\udcff", r"\udcff"),
        (Path("a"), "a"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, printed):
    assert command.printable(text) == printed


# ---------------------------------------------------------------- signals


def test_the_second_signal_ends_at_once():
    code = (
        "import os, signal, time\n"
        "from gankit import command\n"
        "with command.noted_signals(lambda signum: print(signum, flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "    print('still here')\n"
    )
    assert run_code(code)[:2] == (-signal.SIGINT, b"2\n")


def test_ignored_signals_stay_ignored_and_handlers_come_back():
    handler = signal.getsignal(signal.SIGTERM)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with command.noted_signals(print):
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != handler
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGINT, previous)
