"""A guest's console by its pseudo terminal: what others hold is left alone, and an end is noticed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.adapters.libvirt.pty_console import PtyConsole, open_pty_console
from cede.adapters.libvirt.terminal_holders import terminal_holders
from cede.domain_xml.document import console_terminal
from cede.errors import FailureKind, GuestSilentError
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 4_000_000_000  # above the kernel's greatest process id


@contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """The guest's end of a new pseudo terminal, and the path of the other."""
    guest, other = os.openpty()
    path = os.ttyname(other)
    os.close(other)
    try:
        yield guest, path
    finally:
        os.close(guest)


def virsh_lock(folder: Path, path: str) -> Path:
    return folder / f"LCK.._pts_{path.rsplit('/', 1)[1]}"


def test_what_is_typed_reaches_the_guest_raw_and_what_it_prints_comes_back(tmp_path: Path) -> None:
    with terminal() as (guest, path), open_pty_console("pv1", 3, path, locks=tmp_path) as console:
        console.send(b"lspci\r")
        assert os.read(guest, 100) == b"lspci\r"
        assert console.receive(0.0) is None, "the terminal doesn't echo"
        os.write(guest, b"a\nb")
        assert console.receive(1.0) == b"a\nb"


def test_a_guest_that_ends_closes_its_console(tmp_path: Path) -> None:
    guest, other = os.openpty()
    path = os.ttyname(other)
    os.close(other)
    with open_pty_console("pv1", 3, path, locks=tmp_path) as console:
        os.close(guest)
        assert console.receive(1.0) == b""
        with raises(GuestSilentError, "console-closed"):
            console.send(b"x")


def test_a_guest_that_reads_nothing_is_not_typed_into_for_ever() -> None:
    with terminal() as (_, path):
        other = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        started = time.monotonic()
        with raises(GuestSilentError, "console-closed"):
            PtyConsole(other, send_seconds=0.2).send(b"x" * 10_000_000)
        assert time.monotonic() - started < 5
        os.close(other)


def test_both_locks_are_held_while_it_is_open_and_gone_after(tmp_path: Path) -> None:
    with terminal() as (_, path):
        lock = virsh_lock(tmp_path, path)
        with open_pty_console("pv1", 3, path, locks=tmp_path):
            assert int(lock.read_text()) == os.getpid()
            with (
                (tmp_path / "xenconsole.3").open("r+") as xl,
                pytest.raises(BlockingIOError),
            ):
                fcntl.flock(xl, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (
                raises(GuestSilentError, "console-busy", "pv1"),
                open_pty_console("pv1", 3, path, locks=tmp_path),
            ):
                pass
            assert lock.exists(), "a second one leaves the first one's lock"
        assert not lock.exists()


def test_a_session_of_virsh_is_left_alone_and_a_dead_ones_lock_counts_for_nothing(
    tmp_path: Path,
) -> None:
    with terminal() as (_, path):
        lock = virsh_lock(tmp_path, path)
        for content in (f"{os.getppid():10d}\n", "no number", ""):
            lock.write_text(content)
            with (
                raises(GuestSilentError, "console-busy", "pv1"),
                open_pty_console("pv1", 3, path, locks=tmp_path),
            ):
                pass
            assert lock.read_text() == content
        lock.write_text(f"{NOBODY}\n")
        with open_pty_console("pv1", 3, path, locks=tmp_path):
            assert int(lock.read_text()) == os.getpid()


def test_a_program_that_takes_no_lock_and_has_the_terminal_open_is_left_alone(
    tmp_path: Path,
) -> None:
    with terminal() as (_, path):
        with Path(path).open("rb") as opened:
            person = subprocess.Popen(["sleep", "60"], stdin=opened)
        try:
            with (
                raises(GuestSilentError, "console-busy", f"sleep, pid {person.pid}") as caught,
                open_pty_console("pv1", 3, path, locks=tmp_path),
            ):
                pass
        finally:
            person.kill()
            person.wait()
        assert caught.value.kind is FailureKind.TRY_LATER
        assert list(tmp_path.iterdir()) == [], "the locks are gone"
        with open_pty_console("pv1", 3, path, locks=tmp_path):
            pass


def process(proc: Path, pid: int, program: str, *open_files: str) -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "exe").symlink_to(f"/usr/sbin/{program}")
    (proc / str(pid) / "comm").write_text(f"{program[:15]}\n")
    for number, path in enumerate(open_files):
        (proc / str(pid) / "fd" / str(number)).symlink_to(path)


@pytest.mark.parametrize(
    ("program", "holds"),
    [
        ("xenconsoled", False),
        ("libvirtd", False),
        ("virtxend (deleted)", False),
        ("qemu-system-i386", False),
        ("xenconsole", True),
        ("screen", True),
        ("xenconsoled-not", True),
    ],
)
def test_xen_and_libvirt_have_it_open_themselves_and_anybody_else_is_told_by_name(
    tmp_path: Path, program: str, holds: bool
) -> None:
    with terminal() as (_, path):
        process(tmp_path, 4_000_001, program, "/dev/null", path)
        process(tmp_path, 4_000_002, "bash", "/dev/null", "/dev/pts/999999")
        process(tmp_path, os.getpid(), "python3", path)
        found = terminal_holders(path, str(tmp_path))
        assert [f"{program[:15]}, pid 4000001"] * holds == list(found)


def test_a_lock_that_was_there_stays_and_one_that_was_replaced_is_not_removed(
    tmp_path: Path,
) -> None:
    with terminal() as (_, path):
        xl, virsh = tmp_path / "xenconsole.3", virsh_lock(tmp_path, path)
        xl.touch()
        with open_pty_console("pv1", 3, path, locks=tmp_path):
            virsh.unlink()
            virsh.write_text(f"{os.getppid():10d}\n")
        assert xl.exists()
        assert int(virsh.read_text()) == os.getppid()
        xl.unlink()
        virsh.unlink()
        with open_pty_console("pv1", 3, path, locks=tmp_path):
            assert xl.exists()
        assert list(tmp_path.iterdir()) == []


def test_a_session_of_xl_is_left_alone(tmp_path: Path) -> None:
    with terminal() as (_, path), (tmp_path / "xenconsole.3").open("w") as xl:
        fcntl.flock(xl, fcntl.LOCK_EX)
        with (
            raises(GuestSilentError, "console-busy", "pv1"),
            open_pty_console("pv1", 3, path, locks=tmp_path),
        ):
            pass
        assert not virsh_lock(tmp_path, path).exists()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "/dev/pts/../null", "/dev/pts/1\n"])
def test_what_is_no_pseudo_terminal_is_never_opened(tmp_path: Path, path: str) -> None:
    with (
        raises(GuestSilentError, "no-console", "pv1"),
        open_pty_console("pv1", 3, path, locks=tmp_path),
    ):
        pass


def test_the_first_console_of_a_running_domain_tells_its_terminal() -> None:
    xml = "<domain><devices><console type='pty' tty='/dev/pts/7'/><console/></devices></domain>"
    assert console_terminal(xml) == "/dev/pts/7"
    assert console_terminal("<domain><devices/></domain>") == ""
