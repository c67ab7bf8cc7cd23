"""Running a program: what it said, how it failed, and that neither its time nor its words are without end."""

from __future__ import annotations

import os
import signal
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from cede.errors import CedeError, HungError, PermanentError
from cede.util import process as util_process
from unit.raises import raises


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_a_program_printed_is_returned_with_its_errors_in_order() -> None:
    said = util_process.run("sh", "-c", "echo one; echo two >&2; echo three")
    assert said == "one\ntwo\nthree\n"


def test_arguments_are_no_shells_business() -> None:
    assert util_process.run("printf", "%s|", "a b", "$(id)", "*") == "a b|$(id)|*|"


def test_a_program_reads_what_it_is_given_and_nothing_of_ours() -> None:
    assert util_process.run("cat", stdin="0000:01:00.0") == "0000:01:00.0"
    ours, theirs = os.pipe()
    os.write(theirs, b"typed by the administrator")
    os.close(theirs)
    kept = os.dup(0)
    os.dup2(ours, 0)
    try:
        assert util_process.run("cat") == ""
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(ours)


def test_a_program_that_does_not_listen_is_none_the_worse() -> None:
    assert util_process.run("true", stdin="x" * 200_000) == ""


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert util_process.run("printf", r"a\377b\303") == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("echo ' no such domain '; exit 3", 3, ": no such domain"),
        ("echo oops >&2; exit 1", 1, ": oops"),
        ("exit 77", 77, ""),
        ("kill -9 $$", -9, ""),
    ],
)
def test_a_program_that_fails_is_quoted_with_its_status(
    script: str, status: int, said: str
) -> None:
    with raises(PermanentError, "command-failed", f"sh -c {script} ", f"({status})") as reported:
        util_process.run("sh", "-c", script)
    assert reported.value.message.endswith(said)


@pytest.mark.parametrize("name", ["cede-nosuch", "/dev/null", "/"])
def test_a_program_that_is_not_there_is_named(name: str) -> None:
    with raises(PermanentError, "command-missing", name):
        util_process.run(name, "x")


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 30",  # says nothing
        "echo begun; exec sleep 30",
        "exec >&- 2>&-; exec sleep 30",  # has closed its mouth, and lives on
        "sleep 3 & wait",  # its child keeps the pipe open even when it is killed
        "trap '' TERM INT HUP; while :; do sleep 1; done",
    ],
)
def test_a_program_that_hangs_is_left_behind_within_its_time(script: str) -> None:
    started = time.monotonic()
    with raises(HungError, "hung") as reported:
        util_process.run("sh", "-c", script, seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 1.0
    assert "dmesg" in reported.value.remedy


def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(HungError):
        util_process.run("sh", "-c", f"echo $$ > {pid}; exec sleep 30", seconds=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_one_that_cannot_even_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    # no test can bring a program into a system call that hangs
    monkeypatch.setattr("subprocess.Popen.kill", lambda process: killed.append(process.pid))
    started = time.monotonic()
    with pytest.raises(HungError):
        util_process.run("sleep", "30", seconds=0.1)
    assert time.monotonic() - started < 3.0
    os.kill(killed[0], signal.SIGKILL)


def test_what_goes_beyond_the_most_is_dropped() -> None:
    script = "yes | head -c 99998; yes ab | head -c 900000"
    said = util_process.run("sh", "-c", script, most=100_000)
    assert said == "y\n" * 49_999 + "ab"


def test_a_program_that_prints_without_end_hangs_and_fills_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(HungError):
        util_process.run("cat", "/dev/zero", seconds=0.3, most=100_000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000


def test_time_that_is_over_is_over_even_while_there_is_something_to_read() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.write(theirs, b"more")
    with pytest.raises(TimeoutError):
        util_process._heard([ours], time.monotonic() - 1.0, 100)
    assert os.read(ours, 10) == b"more"
    os.close(ours)
    os.close(theirs)


def test_who_asks_gets_words_errors_and_status_apart() -> None:
    said = util_process.run_apart(
        "sh", "-c", "cat; echo two >&2; exit 3", stdin="one\n", seconds=5, most=100
    )
    assert (said.status, said.out, said.err) == (3, b"one\n", b"two\n")


def test_of_each_no_more_is_kept_than_was_asked_for() -> None:
    script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"
    said = util_process.run_apart("sh", "-c", script, stdin="", seconds=20, most=1000)
    assert (len(said.out), len(said.err)) == (1000, 1000)


@pytest.mark.parametrize("script", ["exit 0", "exit 1", "exec sleep 30"])
def test_nothing_is_left_open_however_it_ended(script: str) -> None:
    before = descriptors()
    for argv in (("sh", "-c", script), ("cede-nosuch",)):
        with suppress(CedeError):
            util_process.run(*argv, stdin="x", seconds=0.2)
    assert descriptors() == before
