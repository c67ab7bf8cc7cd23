"""Sessions as real shells had them with cede, played again; and shells of this machine, spoken to now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cede.errors import GuestSilentError
from cede.guest.channels.console_channel import ConsoleChannel
from cede.guest.channels.credentials import Login
from cede.guest.channels.terminal import Frame
from sessions.record import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = sorted((Path(__file__).parent.parent / "sessions").glob("*.yaml"))


class Replay:
    """A console that answers as was recorded, as long as it is asked the same; `cut` bytes of it and no more."""

    def __init__(self, turns: list[dict[str, str]], cut: int | None = None, size: int = 64) -> None:
        self._turns = iter(turns)
        self._said = b""
        self._left = cut
        self._size = size
        self.now = 0.0

    def send(self, data: bytes) -> None:
        if self._left == 0:
            return  # it doesn't answer any more
        turn = next(self._turns, None)
        if turn is not None:
            assert data.decode() == turn["typed"]
            self._said += turn["said"].encode()

    @property
    def left_over(self) -> list[dict[str, str]]:
        return list(self._turns)

    def receive(self, seconds: float) -> bytes | None:
        most = self._size if self._left is None else min(self._size, self._left)
        piece, self._said = self._said[:most], self._said[most:]
        if not piece:
            self.now += seconds
            return None
        if self._left is not None:
            self._left -= len(piece)
        self.now += 0.001
        return piece


@pytest.fixture(params=SESSIONS, ids=lambda path: path.stem)
def session(request: pytest.FixtureRequest) -> dict[str, Any]:
    reported: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return reported


def console(session: dict[str, Any], line: Replay) -> ConsoleChannel:
    user, _, password = (session["login"] or "").partition(":")
    login = Login(guest="recorded", user=user, password=password) if user else None
    return ConsoleChannel(
        line, login, clock=lambda: line.now, frame=lambda: Frame(number=session["number"])
    )


def played(session: dict[str, Any], cut: int | None = None, size: int = 64) -> str:
    return console(session, Replay(session["turns"], cut, size)).run(session["command"], 30)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_recorded_session_gives_the_answer_that_it_gave(
    session: dict[str, Any], size: int
) -> None:
    assert played(session, size=size) == session["answer"]


def test_a_recorded_session_is_left_as_it_was_found(session: dict[str, Any]) -> None:
    line = Replay([*session["turns"], *session["left"]])
    asked = console(session, line)
    asked.run(session["command"], 30)
    asked.leave()
    assert line.left_over == []
    assert session["turns"][0]["said"].rstrip().endswith("login:") == bool(session["left"])


def test_a_session_that_is_truncated_anywhere_gives_the_whole_answer_or_none(
    session: dict[str, Any],
) -> None:
    whole = sum(len(turn["said"].encode()) for turn in session["turns"])
    answered = 0
    for cut in range(whole + 1):
        try:
            said = played(session, cut, size=4096)
        except GuestSilentError:
            continue
        assert said == session["answer"]
        answered += 1
    assert answered > 0


@pytest.fixture(params=["dash -i", "bash --norc --noprofile -i"])
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    opened = Terminal(*request.param.split())
    yield opened
    opened.close()


# Python 3.12 warns of fork where there are threads, as those of other tests; the child only becomes a shell
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_real_shell_answers_a_long_command_and_keeps_its_echo(terminal: Terminal) -> None:
    long = "x='" + "a" * 3000 + "'; echo ${#x}; printf '%s\\n' \"it's\""
    asked = ConsoleChannel(terminal)
    assert asked.run(long, 20) == "3000\nit's\n"
    asked.leave()
    terminal.send(b"stty -a\r")
    said = b""
    while (piece := terminal.receive(1.0)) is not None:
        said += piece
    assert b" echo " in said
    assert b"-echo " not in said
