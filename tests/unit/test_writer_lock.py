"""One writer: who waits, who is told whom for, and that no lock outlives its process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from errno import ELOOP
from pathlib import Path

import pytest

import cede
from cede.adapters.linux.writer_lock import one_writer
from cede.errors import PermanentError, TransientError
from cede.util.clock import Clock
from sim.passing_time import SimulatedTime
from unit.raises import raises

HOLDER = """
import sys, time
from pathlib import Path
from cede.adapters.linux.writer_lock import one_writer
with one_writer("`cede apply` (pid 7)", path=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cede.lock"


def test_a_second_one_is_reported_who_holds_it(path: Path) -> None:
    reported: list[str] = []
    with one_writer("`cede apply` (pid 7)", path=path):
        with (
            raises(TransientError, "another-cede", "`cede apply` (pid 7)") as busy,
            one_writer("second", path=path, waiting=reported.append),
        ):
            pass
        assert "--wait" in busy.value.remedy
        assert f"`fuser {path}`" in busy.value.remedy
    assert reported == []  # who doesn't wait isn't told that he does


def test_the_loser_takes_neither_the_lock_nor_the_name_from_the_winner(path: Path) -> None:
    with one_writer("first", path=path):
        for _ in range(2):
            with raises(TransientError, "another-cede", "first"), one_writer("next", path=path):
                pass


def test_the_lock_is_free_again_afterwards_also_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), one_writer("first", path=path):
        raise ZeroDivisionError
    with one_writer("second", path=path):
        assert path.read_text() == "second"


def test_a_longer_name_leaves_nothing_behind_in_a_shorter_one(path: Path) -> None:
    with one_writer("a very long name", path=path):
        pass
    with (
        one_writer("short", path=path),
        raises(TransientError, "another-cede", "short"),
        one_writer("x", path=path),
    ):
        pass


def test_a_holder_that_left_no_name_is_another_cede(path: Path) -> None:
    with (
        one_writer("", path=path),
        raises(TransientError, "another-cede", "another cede"),
        one_writer("x", path=path),
    ):
        pass


def test_one_that_waits_is_reported_once_whom_for_and_gets_it(path: Path) -> None:
    reported: list[str] = []
    time = SimulatedTime()
    first = one_writer("first", path=path)
    first.__enter__()
    time.after(3.0, lambda: first.__exit__(None, None, None))
    with one_writer("second", path=path, seconds=60, waiting=reported.append, clock=time.clock):
        assert path.read_text() == "second"
    assert [said.split(" is ")[0] for said in reported] == ["first"]
    assert len(time.pauses) == 3


def test_one_that_waits_for_too_long_is_reported_who_holds_it_by_then(path: Path) -> None:
    with (
        one_writer("first", path=path),
        raises(TransientError, "another-cede", "first"),
        one_writer("second", path=path, seconds=0.1),
    ):
        pass


def test_threads_have_it_one_at_a_time(path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def change() -> None:
        with one_writer("w", path=path, seconds=60, clock=Clock(sleep=lambda _: None)):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=change) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_the_lock_dies_with_a_process_that_is_killed(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(cede.__file__).parent.parent)},
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        with raises(TransientError, "another-cede", "(pid 7)"), one_writer("second", path=path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with one_writer("second", path=path):
        assert path.read_text() == "second"


def test_a_program_that_the_holder_started_does_not_keep_the_lock(path: Path) -> None:
    with one_writer("first", path=path):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    with one_writer("second", path=path):
        child.kill()
    child.wait()


def test_a_link_in_its_place_is_not_applied(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    path.symlink_to(target)
    with raises(PermanentError, "lock-unusable", os.strerror(ELOOP)), one_writer("w", path=path):
        pass
    assert target.read_text() == "kept"


def test_a_lock_that_cannot_be_opened_is_a_failure_and_not_a_wait(path: Path) -> None:
    path.mkdir()
    for place, why in ((path, "Is a directory"), (path / "no/lock", "No such file")):
        with (
            raises(PermanentError, "lock-unusable", place, why) as reported,
            one_writer("w", path=place, seconds=60),
        ):
            pass
        assert "root" in reported.value.remedy


def test_nobody_else_can_hold_it(path: Path) -> None:
    with one_writer("w", path=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("failing", ["truncate", "pwrite"])
def test_a_holder_that_cannot_leave_its_name_holds_it_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)  # no file system of ours is full
    with (
        one_writer("first", path=path),
        raises(TransientError, "another-cede"),
        one_writer("second", path=path),
    ):
        pass


def test_a_name_that_is_no_text_is_reported_as_well_as_it_can_be(path: Path) -> None:
    with (
        one_writer("`cede release \udcff`", path=path),
        raises(TransientError, "another-cede", r"`cede release \udcff`"),
        one_writer("second", path=path),
    ):
        pass
