"""Record how a shell talks with cede, for test_console_sessions to play it again.

    record.py --what WORDS [--login USER:PASSWORD] (--domain NAME | --shell "ARGV") COMMAND > NAME.yaml

Needs cede and PyYAML; it also runs where only its text is sent (`contrib/lab exec -- python3 - ... < record.py`).
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import shlex
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import yaml

from cede.guest.channels.console_channel import ConsoleChannel
from cede.guest.channels.credentials import Login

if TYPE_CHECKING:
    from cede.guest.channels.console_channel import Line

_SECONDS = 120


class Terminal:
    """A shell on a terminal of this machine."""

    def __init__(self, *argv: str) -> None:
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.execvpe(argv[0], argv, {"PATH": os.environ["PATH"], "TERM": "vt220", "PS1": "pv1# "})

    def send(self, data: bytes) -> None:
        os.write(self._terminal, data)

    def receive(self, seconds: float) -> bytes | None:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return None
        return os.read(self._terminal, 65536)

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._child, 0)


class Recorder:
    """A line that keeps what was typed into it, and what it said to that."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._turns: list[tuple[bytes, bytearray]] = []

    def send(self, data: bytes) -> None:
        self._turns.append((data, bytearray()))
        self._line.send(data)

    def receive(self, seconds: float) -> bytes | None:
        said = self._line.receive(seconds)
        if said and self._turns:
            self._turns[-1][1].extend(said)
        return said

    @property
    def turns(self) -> list[dict[str, str]]:
        return [
            {"typed": typed.decode(), "said": bytes(said).decode()} for typed, said in self._turns
        ]


def recorded(line: Line, command: str, login: str | None) -> dict[str, Any]:
    """One session: the command, its answer, and how the console was left."""
    user, _, password = (login or "").partition(":")
    number = os.urandom(8)
    os.urandom = lambda _: number
    recorder = Recorder(line)
    console = ConsoleChannel(
        recorder, Login(guest="recorded", user=user, password=password) if login else None
    )
    answer = console.run(command, _SECONDS)
    asked = len(recorder.turns)
    console.leave()
    return {
        "number": number.hex(),
        "login": login,
        "command": command,
        "answer": answer,
        "turns": recorder.turns[:asked],
        "left": recorder.turns[asked:],
    }


def main() -> None:
    """Record one session and print it."""
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--what", required=True)
    options.add_argument("--login")
    line_at = options.add_mutually_exclusive_group(required=True)
    line_at.add_argument("--domain")
    line_at.add_argument("--shell")
    options.add_argument("command")
    reported = options.parse_args()
    with ExitStack() as opened:
        line: Line
        if reported.domain:
            from cede.adapters.libvirt.connection import Libvirt

            line = opened.enter_context(Libvirt("xen:///system").console(reported.domain))
        else:
            line = terminal = Terminal(*shlex.split(reported.shell))
            opened.callback(terminal.close)
        session = recorded(line, reported.command, reported.login)
    sys.stdout.write(f"# {reported.what}\n")
    yaml.safe_dump(session, sys.stdout, sort_keys=False, width=120)


if __name__ == "__main__":
    main()
