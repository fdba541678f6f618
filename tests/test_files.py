import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from disks import small_disk
from maskatlas.files import remove_leftovers, write_atomically

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from maskatlas.files import write_atomically

def parts():
    yield b"half of it"
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), parts())
"""


def test_a_file_is_written_whole_or_in_parts_into_a_new_folder(tmp_path: Path) -> None:
    whole, parts = tmp_path / "a" / "b" / "whole", tmp_path / "parts"
    write_atomically(whole, b"content")
    write_atomically(parts, (part for part in [b"con", memoryview(b"tent"), b""]))
    assert whole.read_bytes() == parts.read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] in (["a", "parts"], ["parts", "a"])


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, parts())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(f"fsync {'folder' if path.is_dir() else path.read_bytes().decode()}")
        real_fsync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        events.append("rename")
        return real_replace(path, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file is synchronised")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "file", [b"all of ", b"it"])
    assert events == ["fsync all of it", "rename", "fsync folder"]


def test_what_a_killed_writer_left_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    died = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, path], check=False)
    assert died.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (leftover,) = set(tmp_path.iterdir()) - {path}
    assert remove_leftovers(tmp_path) == [leftover]
    assert list(tmp_path.iterdir()) == [path]
    assert remove_leftovers(tmp_path) == []


def test_what_another_process_still_writes_is_not_removed(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"first half, "
        assert remove_leftovers(tmp_path) == []
        yield b"second half"

    write_atomically(tmp_path / "file", parts())
    assert (tmp_path / "file").read_bytes() == b"first half, second half"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        path = disk / "file"
        write_atomically(path, b"old")
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(path, [bytes(2**20)] * 3)
        assert caught.value.errno == errno.ENOSPC
        assert path.read_bytes() == b"old"
        assert list(disk.iterdir()) == [path]
        assert shutil.disk_usage(disk).free > 2**20


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "below", b"")
