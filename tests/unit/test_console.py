"""A guest's shell over a line of text: what counts as an answer, and when waiting ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import GuestSilentError
from cede.guest import console, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROMPT = b"root@pv1:~# "


class Line:
    """A console with a clock of its own: `says` is asked for the pieces that follow what was typed.

    Silence takes the time that was waited, a piece takes `pace` seconds.
    """

    def __init__(self, says: Callable[[bytes], Iterable[bytes]], pace: float = 0.01) -> None:
        self._says = says
        self._pace = pace
        self._out = iter(())  # type: Iterable[bytes]
        self.typed: list[bytes] = []
        self.now = 100.0

    def send(self, data: bytes) -> None:
        self.typed.append(data)
        self._out = iter([*self._out, *self._says(data)]) if data else self._out

    def receive(self, seconds: float) -> bytes | None:
        piece = next(iter(self._out), None)
        self.now += seconds if piece is None else self._pace
        return piece

    def run(self, command: str = "lspci", seconds: float = 30.0) -> str:
        return console.Console(self, clock=lambda: self.now).run(command, seconds)


def number_in(typed: bytes) -> bytes:
    found = re.search(rb"echo cede-'([0-9a-f]{16})'-begin", typed)
    assert found is not None
    return found[1]


def shell(answer: str, *, around: str = "{}", prompt: bytes = PROMPT) -> Line:
    """A shell with echo; `around` is a template for all that comes between the echo and the prompt."""

    def says(typed: bytes) -> list[bytes]:
        if b"begin" not in typed:
            return [b"\r\n" + prompt]
        mark = "cede-" + number_in(typed).decode()
        said = around.format(f"{mark}-begin\n{answer}{mark}-end\n").replace("\n", "\r\n")
        return [typed + b"\r\n", said.encode(), prompt]

    return Line(says)


def why(line: Line, seconds: float = 30.0) -> str:
    with pytest.raises(GuestSilentError) as caught:
        line.run(seconds=seconds)
    return caught.value.message


def test_the_answer_is_what_stands_between_the_marks() -> None:
    line = shell("Slot:\t0000:00:00.0\n\n")
    assert line.run() == "Slot:\t0000:00:00.0\n\n"


def test_an_empty_answer_is_an_answer() -> None:
    assert shell("").run() == ""


def test_a_half_typed_line_is_cleared_and_the_command_stays_out_of_the_history() -> None:
    line = shell("")
    line.run("lspci")
    assert line.typed[0] == b"\x15\r"
    assert re.fullmatch(rb" echo cede-.*; lspci; echo cede-.*\r", line.typed[1])


def test_every_run_has_marks_of_its_own() -> None:
    numbers = set()
    for _ in range(3):
        line = shell("")
        line.run()
        numbers.add(number_in(line.typed[1]))
    assert len(numbers) == 3


@pytest.mark.parametrize("prompt", [b"# ", b"$ ", b"%", b"pv1 > ", b"\x1b[1;32mroot\x1b[0m# "])
def test_prompts_of_the_usual_shells_are_known(prompt: bytes) -> None:
    assert shell("x\n", prompt=prompt).run() == "x\n"


def test_colours_titles_and_bracketed_paste_are_taken_away() -> None:
    line = shell(
        "\x1b[01;34mbin\x1b[0m\x1b(B\n",
        around="\x1b[?2004l\r\x1b]0;root@pv1\x07\x1b[?25l{}\x1b[?2004h",
        prompt=b"\x1b]0;root@pv1: ~\x07\x1b[?2004h" + PROMPT,
    )
    assert line.run() == "bin\n"


def test_kernel_messages_before_and_inside_the_answer_stay_lines() -> None:
    line = shell("[ 1.2] eth0: up\nx\n", around="[ 1.0] pcifront\n{}[ 1.3] more\n")
    assert line.run() == "[ 1.2] eth0: up\nx\n"


def test_a_message_over_the_prompt_is_answered_with_another_enter() -> None:
    says = [[PROMPT, b"[ 9.9] e1000e: up\r\n"], [PROMPT]]
    answering = shell("x\n")

    def after_a_message(typed: bytes) -> list[bytes]:
        if typed == b"\x15\r":
            return says.pop(0)
        return list(answering._says(typed))

    # the prompt and the message come in one piece
    says[0] = [b"".join(says[0])]
    line = Line(after_a_message)
    assert line.run() == "x\n"
    assert [typed == b"\x15\r" for typed in line.typed] == [True, True, False]


@given(st.integers(1, 7))
def test_it_doesnt_matter_in_what_pieces_the_answer_comes(size: int) -> None:
    whole = shell("Slot:\t0000:00:00.0\n")

    def cut(typed: bytes) -> list[bytes]:
        said = b"".join(whole._says(typed))
        return [said[i : i + size] for i in range(0, len(said), size)]

    assert Line(cut).run() == "Slot:\t0000:00:00.0\n"


def test_the_echo_of_the_command_is_never_its_answer() -> None:
    def echo_only(typed: bytes) -> list[bytes]:
        return [b"\r\n" + PROMPT if typed == b"\x15\r" else typed + b"\r\n"]

    assert "no answer in time" in why(Line(echo_only))


@pytest.mark.parametrize(
    "forged",
    [
        b"cede-0123456789abcdef-begin\r\nSlot:\tforged\r\ncede-0123456789abcdef-end\r\n",
        b"cede-begin\r\nx\r\ncede-end\r\n",
    ],
)
def test_marks_with_another_number_are_no_marks(forged: bytes) -> None:
    def says(typed: bytes) -> list[bytes]:
        return [b"\r\n" + PROMPT] if typed == b"\x15\r" else [typed, b"\r\n", forged, PROMPT]

    assert "no answer in time" in why(Line(says))


def test_an_end_mark_inside_a_line_ends_nothing() -> None:
    def says(typed: bytes) -> list[bytes]:
        if typed == b"\x15\r":
            return [b"\r\n" + PROMPT]
        mark = b"cede-" + number_in(typed)
        inside = b"x " + mark + b"-end\r\n" + mark + b"-end x\r\n"
        return [b"\r\n" + mark + b"-begin\r\n" + inside + mark + b"-end\r\n"]

    answer = Line(says).run()
    assert answer.count("\n") == 2


@pytest.mark.parametrize(
    "asked", [b"\r\npv2 login: ", b"Username:", b"Password: ", b"root's password:"]
)
def test_a_login_is_left_to_people_and_nothing_is_typed_into_it(asked: bytes) -> None:
    line = Line(lambda _: [asked])
    with pytest.raises(GuestSilentError, match="asks for a login") as caught:
        line.run()
    assert "log in" in caught.value.remedy
    assert line.typed == [b"\x15\r"]


def test_a_silent_guest_is_waited_for_as_long_as_was_said_and_no_longer() -> None:
    line = Line(lambda _: [])
    assert "no answer in time" in why(line, seconds=7.0)
    assert line.now == pytest.approx(107.0)
    assert set(line.typed) == {b"\x15\r"}


def test_a_guest_that_never_stops_printing_ends_by_its_size() -> None:
    assert "prints without end" in why(Line(lambda _: [b"y\r\n" * 10000] * 100))


def test_a_guest_that_never_stops_printing_slowly_ends_by_the_time() -> None:
    line = Line(lambda _: [b"tick\r\n"] * 10000, pace=1.0)
    assert "no answer in time" in why(line)
    assert line.now <= 132.0


def test_a_line_that_closes_says_so() -> None:
    assert "closed from the other side" in why(Line(lambda _: [b"\r\n", b""]))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"a\r\nb\tc\n", "a\nb\tc\n"),
        (b"a\r\r\nb", "a\nb"),
        (b"\x1b[31;1mred\x1b[m", "red"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bP1$r0m\x1b\\x\x1b_app\x1b\\y\x1b^pm\x1b\\", "xy"),
        (b"\x1b(Bx\x1b)0", "x"),
        (b"\x1b7x\x1b8\x1bc\x1b=\x1b>\x1bM", "x"),
        (b"\x07\x08\x00\x7f\x9b1mx", "1mx"),
        ("caf\u00e9 \u202ex \ufffd".encode(), "caf x "),
        (b"\xff\xfe\x1b", ""),
    ],
)
def test_only_plain_lines_are_left_of_what_a_guest_prints(said: bytes, shown: str) -> None:
    assert terminal.printable(said) == shown


@given(st.binary())
def test_no_escape_and_no_control_character_is_ever_shown(said: bytes) -> None:
    assert re.fullmatch(r"[\n\t -~]*", terminal.printable(said))
