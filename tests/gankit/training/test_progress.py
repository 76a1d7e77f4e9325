import os
import subprocess
import sys
from pathlib import Path

import pytest

from gankit.training.progress import Progress, progress_line

ROOT = Path(__file__).resolve().parents[3]
TEXT = "c[2.305,100], d[0.096,2.399], g[0.095]"


def shown(printed):
    """What a terminal shows on its line after each \\r of a text."""
    screens, screen = [], ""
    for part in printed.split("\r")[1:]:
        screen = part + screen[len(part) :]
        screens.append(screen.rstrip())
    return screens


def show(columns, texts, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = dict(enumerate(texts, 1))
    with Progress(1, texts.get) as progress:
        progress.begin(0, len(texts))
        for step in texts:
            progress.show(step, step)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 40, 20, 10, 2, 1])
def test_the_line_is_never_wider_than_the_terminal(columns, monkeypatch, capsys):
    printed = show(columns, [TEXT, "", TEXT + "123456"] * 4, monkeypatch, capsys)
    lines = printed.removesuffix("\n").split("\r")[1:]
    assert len(lines) == 12
    assert max(map(len, lines)) < columns or columns == 1


@pytest.mark.parametrize("columns", [200, 80, 40])
def test_a_shorter_line_clears_a_longer_one(columns, monkeypatch, capsys):
    printed = show(columns, [TEXT, "short", TEXT, "x"], monkeypatch, capsys)
    for step, (screen, text) in enumerate(
        zip(shown(printed), [TEXT, "short", TEXT, "x"], strict=True), 1
    ):
        assert screen.startswith(f">{step}/4") and screen.endswith("left")
        assert screen.count("left") == 1
        assert columns < 80 or text in screen


def test_a_terminal_may_become_narrower(monkeypatch, capsys):
    with Progress(1, lambda step: TEXT) as progress:
        progress.begin(0, 2)
        for step, columns in ((1, "120"), (2, "40")):
            monkeypatch.setenv("COLUMNS", columns)
            progress.show(step, step)
    _, wide, narrow = capsys.readouterr().out.removesuffix("\n").split("\r")
    assert len(wide) > 70 and len(narrow) < 40


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (99, f">600/12000 [#...................] {TEXT}, 1:02:03 left"),
        (79, f">600/12000 {TEXT}, 1:02:03 left"),
        (61, ">600/12000 [#...................] 1:02:03 left"),
        (46, ">600/12000 [#...................] 1:02:03 left"),
        (45, ">600/12000 1:02:03 left"),
        (12, ">600/12000 1"),
        (0, ""),
        (-1, ""),
    ],
)
def test_what_does_not_fit_goes(width, line):
    assert progress_line(600, 12000, TEXT, "1:02:03", width) == line


@pytest.mark.parametrize(("step", "done"), [(4, 0), (50, 10), (100, 20)])
def test_the_bar_fills(step, done):
    line = progress_line(step, 100, "", "0:00:01", 79)
    assert line.count("#") == done and line.count(".") == 20 - done


def test_the_time_left_follows_from_the_steps_made_here(monkeypatch, capsys):
    now = iter([100.0, 104.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    with Progress(1, str) as progress:
        progress.begin(600, 700)
        progress.show(602, "")
    assert "0:03:16 left" in capsys.readouterr().out  # 98 steps of two seconds


def test_a_line_a_step_or_none(capsys):
    for verbose, printed in ((2, ">1, [1.0]\n>2, [2.0]\n"), (0, "")):
        with Progress(verbose, str) as progress:
            progress.begin(0, 2)
            progress.show(1, [1.0])
            progress.show(2, [2.0])
            progress.end_line()
        assert capsys.readouterr().out == printed


def test_what_follows_has_a_line_of_its_own(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(RuntimeError), Progress(1, str) as progress:
        progress.begin(0, 3)
        progress.show(1, "")
        progress.end_line()
        print("Accuracy")
        progress.end_line()
        progress.show(2, "")
        raise RuntimeError
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4 and lines[1] == "Accuracy"
    assert lines[0].startswith("\r>1/3") and lines[2].startswith("\r>2/3")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_a_terminal_tells_its_width():
    import fcntl
    import pty
    import struct
    import termios

    code = (
        "from gankit.training.progress import Progress\n"
        f"with Progress(1, lambda figures: {TEXT!r}) as progress:\n"
        "    progress.begin(0, 3)\n"
        "    for step in (1, 2, 3):\n"
        "        progress.show(step, None)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=theirs,
        check=True,
        timeout=60,
    )
    os.close(theirs)
    lines = os.read(ours, 10_000).decode().strip().split("\r")
    os.close(ours)
    assert [len(line) for line in lines] == [len(">1/3 [......] 0:00:00 left") + 14] * 3
