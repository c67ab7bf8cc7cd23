"""The debug log: each call into the outside with its duration, nothing without the switch, and no secret ever."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import libvirt
import pytest

from cede.adapters.libvirt.pty_console import open_pty_console
from cede.adapters.xen.xenstore_client import Operation, XenstoreClient
from cede.errors import HungError, PermanentError, TransientError, UnreachableError
from cede.guest.channels import credentials
from cede.guest.channels.console_channel import ConsoleChannel
from cede.util import process
from cede.util.clock import Clock
from cede.util.log import log_calls, logged_call, logging_to_stderr
from cede.util.retry import retry_transient
from unit.fake_xenstored import FakeXenstored
from unit.test_cli import cede, policy  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sim.in_files import SimulatedHost
    from unit.test_cli import Shown

DONE = r"done, \d+\.\d ms"
PASSWORD = "correct horse"  # noqa: S105 - it opens nothing


@contextmanager
def debugging() -> Iterator[None]:
    with logging_to_stderr(logging.DEBUG):
        yield


# -- the switches


@pytest.mark.parametrize("words", [("--debug", "apply", "--yes"), ("apply", "--yes", "--debug")])
def test_a_debug_run_names_each_call_with_its_duration(
    cede: Callable[..., Shown],  # noqa: F811
    host: SimulatedHost,
    words: tuple[str, ...],
) -> None:
    shown = cede(*words)
    assert shown.status == 0
    told = re.findall(rf"^\d\d:\d\d:\d\d (\w+)\.(\w+)\(.*\): {DONE}$", shown.err, re.MULTILINE)
    assert {("libvirt", "domains"), ("kernel", "load_pciback"), ("libvirt", "plug")} <= set(told)
    done = {line.partition(" ")[0] for line in host.journal} - {"load"}
    assert {"bind_to_pciback", "plug", "redefine"} <= done <= {method for _, method in told}
    assert " ms" not in shown.out


@pytest.mark.parametrize("words", [(), ("-v",), ("--verbose",)])
def test_without_the_switch_no_call_is_told(
    cede: Callable[..., Shown],  # noqa: F811
    words: tuple[str, ...],
) -> None:
    for shown in (cede(*words, "plan"), cede("plan", *words)):
        assert bool(words) == ("saw 2 devices and 2 domains" in shown.err)
        assert " ms" not in shown.err
        assert words or shown.err == ""


def test_every_command_has_both_switches_and_leaves_no_log_behind(
    cede: Callable[..., Shown],  # noqa: F811
) -> None:
    from cede.cli.main import _MODULES

    for name in _MODULES:
        for _ in range(2):
            shown = cede(name, "--help", on=None)
        assert shown.status == 0
        assert (shown.out.count("--debug"), shown.out.count("-v, --verbose")) == (1, 1), name
    cede("-v", "plan", "--debug")
    assert (logging.getLogger("cede").handlers, logging.getLogger("cede").level) == ([], 0)
    assert cede("plan").err == ""


def test_what_is_tried_again_is_told_to_those_who_want_to_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers: list[Exception | None] = [TransientError("\x1b[2Jbusy"), None]

    def call() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    with logging_to_stderr(logging.INFO):
        retry_transient(call, Clock(sleep=lambda _: None))
    assert re.search(r"trying again in \d\.\d s: \?\[2Jbusy\n", capsys.readouterr().err)


# -- the adapters


def test_nothing_is_put_into_words_that_nobody_reads() -> None:
    def describe() -> str:
        raise AssertionError

    with logged_call(describe), logging_to_stderr(logging.INFO), logged_call(describe):
        pass
    target = object()
    assert log_calls(target, "x") is target


def test_a_program_is_told_with_what_it_was_given_and_how_it_ended(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slot = tmp_path / "remove_slot"
    with debugging():
        process.run("tee", str(slot), stdin="0000:01:00.0")
        with pytest.raises(PermanentError):
            process.run("sh", "-c", "exit 3")
        with pytest.raises(HungError):
            process.run("sleep", "9", seconds=0.1)
        process.run_apart("cat", stdin="said to a guest", seconds=9, most=100)
    first, *others = capsys.readouterr().err.splitlines()
    assert re.search(rf" tee {slot} <<< 0000:01:00.0: {DONE}", first)
    assert [re.findall(r" (\w+).*: (\w+), ", line)[0] for line in others] == [
        ("sh", "done"),
        ("sleep", "HungError"),
        ("cat", "done"),
    ]
    assert "said to" not in "".join(others)


def test_a_question_to_xenstore_is_told_without_what_was_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    xenstored = FakeXenstored(tmp_path / "socket")
    client = XenstoreClient(xenstored.path)
    with debugging():
        client.write("/a\x1b[2J", b"secret")
        client.ask(Operation.READ, ["/a", "/b", "/c"])
        xenstored.answer = lambda *_: None
        with pytest.raises(UnreachableError):
            client.ask(Operation.DIRECTORY, ["/a"])
    said = capsys.readouterr().err
    assert re.search(rf" xenstore WRITE /a\?\[2J: {DONE}\n", said)
    assert re.search(rf" xenstore READ /a and 2 more: {DONE}\n", said)
    assert re.search(r" xenstore DIRECTORY /a: UnreachableError, ", said)
    assert "secret" not in said
    client.close()
    xenstored.close()


def test_each_call_to_libvirt_is_told_and_of_xml_only_its_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    xml = "<domain type='test'><name>x</name><memory>9</memory><os><type>hvm</type></os></domain>"
    with debugging():
        connection = log_calls(libvirt, "libvirt").open("test:///default")
        domain = connection.lookupByName("test")
        assert domain.XMLDesc().startswith("<domain")
        assert [found.name() for found in connection.listAllDomains()] == ["test"]
        connection.defineXML(xml)
        with pytest.raises(libvirt.libvirtError):
            connection.lookupByName("none")
        connection.close()
    said = capsys.readouterr().err
    for call in (r"open\(test:///default\)", r"lookupByName\(test\)", r"XMLDesc\(\)", r"name\(\)"):
        assert re.search(rf" libvirt\.{call}: {DONE}\n", said), call
    assert re.search(rf" libvirt\.defineXML\({len(xml)} characters of XML\): {DONE}\n", said)
    assert re.search(r" libvirt\.lookupByName\(none\): libvirtError, ", said)
    assert "memory" not in said


def test_a_password_that_is_typed_into_a_guest_is_never_in_the_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    guest, terminal = os.openpty()
    typed: list[bytes] = []

    def asks_for_a_login() -> None:
        with suppress(OSError):
            while data := os.read(guest, 4096):
                typed.append(data)
                os.write(guest, b"\r\nPassword: " if b"admin" in data else b"\r\npv1 login: ")

    threading.Thread(target=asks_for_a_login, daemon=True).start()
    with (
        debugging(),
        open_pty_console("pv1", 1, os.ttyname(terminal), locks=tmp_path) as console,
    ):
        login = credentials.read_login("uuid", "admin", str(secret), set())
        with pytest.raises(Exception, match=r".+"):
            ConsoleChannel(console, login).run("lspci", seconds=3)
    os.close(terminal)
    os.close(guest)
    assert PASSWORD.encode() in b"".join(typed)
    captured = capsys.readouterr()
    assert "the console of pv1" in captured.err
    assert PASSWORD not in captured.err + captured.out
