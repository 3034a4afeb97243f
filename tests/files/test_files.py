"""Output files: the old one or the new one, never half of one."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verifier.errors import UsageError
from verifier.files import is_inside, read_file, replace_file

#: Replaces a file with 4 MB of one letter after the other, for ever.
_WRITER = """
import sys
from pathlib import Path
from verifier.files import is_inside, read_file, replace_file

path, turn = Path(sys.argv[1]), 0
while True:
    replace_file(path, b"%c" % (97 + turn % 26) * (4 << 20))
    turn += 1
"""


def test_a_killed_process_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """Killed in the middle of whatever it does; some of the kills hit while the file is being written."""
    path = tmp_path / "out.json"
    source, unfinished, letters = random.Random(7), 0, set()
    for _ in range(25):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
        while not path.exists():
            assert writer.poll() is None
        time.sleep(0.15 + source.random() * 0.1)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        data = path.read_bytes()
        assert len(data) == 4 << 20
        assert data.count(data[:1]) == len(data)
        letters.add(data[:1])
        for left in tmp_path.glob(".*.part"):
            unfinished += 1
            left.unlink()
        assert list(tmp_path.iterdir()) == [path]
    assert unfinished > 0, "no kill hit a write: the test shows nothing"
    assert len(letters) > 1


@pytest.mark.parametrize("durable", [True, False])
def test_new_and_replaced(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "out"
    replace_file(path, b"first", durable)
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o600)
    replace_file(path, b"", durable)
    assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "out", tmp_path / "link"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        replace_file(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data


@pytest.mark.parametrize("name", ["folder", "fifo", "missing/out", "out/out", "a" * 300, "loop", "nul\0"])
def test_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"^error: cannot write ") as refusal:
        replace_file(tmp_path / name, b"new")
    assert len(refusal.value.render()) < 1000
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out").read_bytes() == b"old"


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    replace_file(path, b"old")

    def no_space(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("verifier.files.os.fsync", no_space)
    with pytest.raises(UsageError, match="No space left on device"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"x" * 1000)
    assert read_file(path, 1000) == b"x" * 1000
    with pytest.raises(UsageError, match="larger than"):
        read_file(path, 999)


@pytest.mark.parametrize("name", ["folder", "fifo", "missing", "in/in", "a" * 300, "loop", "nul\0", "zero"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError):
        read_file(tmp_path / name, 10)


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a", True), ("new", True), ("f/../a", True), ("f/../../x", False), ("out/a", False), ("/etc", False),
     ("loop", False), ("a" * 300, False), ("nul\0", False)],
)  # fmt: skip
def test_inside(tmp_path: Path, name: str, inside: bool) -> None:
    tree = tmp_path / "tree"
    (tree / "f").mkdir(parents=True)
    (tree / "a").touch()
    (tmp_path / "a").touch()
    (tree / "out").symlink_to(tmp_path)
    (tree / "loop").symlink_to(tree / "loop")
    assert is_inside(tree / name, tree) is inside


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
