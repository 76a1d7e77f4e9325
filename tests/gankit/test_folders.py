import datetime
import os
import subprocess
import sys
import threading

import pytest

from gankit import folders
from gankit.command import InputError
from parts import refused


class Clock(datetime.datetime):
    @classmethod
    def now(cls):
        return cls(2024, 5, 6, 7, 8, 9)


@pytest.fixture
def same_second(monkeypatch):
    monkeypatch.setattr(folders.datetime, "datetime", Clock)


def test_dated_folders_of_one_second_have_numbers(same_second, tmp_path):
    parent = tmp_path / "runs" / "here"
    made = [folders.dated_folder(parent, "gan") for _ in range(3)]
    stem = "20240506-070809-gan"
    assert [path.name for path in made] == [stem, f"{stem}-2", f"{stem}-3"]
    for path in made:
        assert path.parent == parent and folders.new_folder(path) == path


def test_runs_that_start_together_get_a_folder_each(same_second, tmp_path):
    n, made = 8, []
    barrier = threading.Barrier(n)

    def claim():
        barrier.wait()
        made.append(folders.dated_folder(tmp_path, "gan"))

    threads = [threading.Thread(target=claim) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == n and set(made) == set(tmp_path.iterdir())


def test_a_folder_that_is_taken_between_look_and_make(
    same_second, tmp_path, monkeypatch
):
    """As where the other process is quicker by a moment."""
    mkdir = folders.Path.mkdir
    other = tmp_path / "20240506-070809-gan"

    def overtaken(path, *args, **options):
        if path == other and not other.exists():
            os.mkdir(other)
        return mkdir(path, *args, **options)

    monkeypatch.setattr(folders.Path, "mkdir", overtaken)
    assert folders.dated_folder(tmp_path, "gan").name == "20240506-070809-gan-2"


@pytest.mark.parametrize("below", ["", "runs", "runs/here"])
def test_a_folder_below_a_file_is_refused(below, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    path = file / below
    calls = [(folders.dated_folder, path, "gan"), (folders.new_folder, path)]
    for call, *arguments in [*calls, (folders.writable_folder, path)]:
        line = refused(call, *arguments)
        assert line.startswith(f"{path}: can't be written (")
        assert line.endswith("; name another folder")
    assert file.read_text(encoding="utf-8") == "kept"


def test_a_new_folder_is_new_or_empty(tmp_path):
    out = folders.new_folder(tmp_path / "a" / "b")
    assert out.is_dir() and folders.new_folder(str(out)) == out
    (out / "file").write_text("kept", encoding="utf-8")
    line = refused(folders.new_folder, out)
    assert line == f"{out}: holds files already; name a new folder"
    assert folders.writable_folder(out) == out
    assert [path.name for path in out.iterdir()] == ["file"]


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), folders.write_atomically(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with folders.write_atomically(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "table.csv"
    with folders.write_atomically(path) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        (tmp_path / "kept.csv").write_text("kept", encoding="utf-8")
        folders.remove_partials(tmp_path)
        assert not temporary.exists() and (tmp_path / "kept.csv").exists()
        temporary.write_text("whole", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "whole"


def test_a_locked_folder_is_refused(tmp_path):
    busy = pytest.raises(InputError, match="another run is at work there")
    with folders.locked(tmp_path), busy, folders.locked(tmp_path):
        pass
    with folders.locked(tmp_path):
        pass


def test_a_claimed_folder_is_new_and_locked(tmp_path):
    path = tmp_path / "a" / "b"
    with folders.claimed(path) as out:
        assert out == path and not list(out.iterdir())
        # nobody has it meanwhile, though it is still empty
        with pytest.raises(InputError, match="another run is at work there"):
            folders.claimed(path).__enter__()
        (out / "file").touch()
    with pytest.raises(InputError, match="holds files already"):
        folders.claimed(path).__enter__()


def test_a_folder_that_another_process_has_filled_is_not_claimed(tmp_path, monkeypatch):
    """It did so between our look and our lock."""
    locked = folders.locked

    def slow(folder):
        (folder / "theirs").touch()
        return locked(folder)

    monkeypatch.setattr(folders, "locked", slow)
    with pytest.raises(InputError, match="holds files already"):
        folders.claimed(tmp_path / "a").__enter__()


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import os, sys\n"
        "from gankit import folders\n"
        "with folders.held(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(folders.__file__)),
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), folders.held(path, wait=False):
            pass
        process.kill()
    with folders.held(path, wait=False) as handle:
        assert os.fstat(handle).st_mode & 0o777 == 0o600


def test_a_file_system_without_locks_locks_nothing(tmp_path, monkeypatch):
    import fcntl

    def flock(handle, how):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with folders.locked(tmp_path), folders.locked(tmp_path):
        pass
