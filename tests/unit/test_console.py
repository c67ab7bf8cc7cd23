"""A guest's shell over a line of text: what counts as an answer, and when waiting ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import GuestSilentError
from cede.guest.channels import console_channel, terminal
from cede.guest.channels.credentials import Login
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PROMPT = b"root@pv1:~# "


class Line:
    """A console with a clock of its own: `says` is asked for the pieces that follow what was typed; `shown` is before.

    Silence (None) takes the time that was waited, a piece takes `pace` seconds.
    """

    def __init__(
        self,
        says: Callable[[bytes], Iterable[Any]],
        pace: float = 0.01,
        shown: Iterable[bytes | None] = (),
    ) -> None:
        self._says = says
        self._pace = pace
        self._out: Iterator[bytes | None] = iter(shown)
        self.typed: list[bytes] = []
        self.now = 100.0

    def send(self, data: bytes) -> None:
        self.typed.append(data)
        self._out = iter([*self._out, *self._says(data)]) if data else self._out

    def receive(self, seconds: float) -> bytes | None:
        piece = next(self._out, None)
        self.now += seconds if piece is None else self._pace
        return piece

    def run(self, command: str = "lspci", seconds: float = 30.0) -> str:
        return console_channel.ConsoleChannel(self, clock=lambda: self.now).run(command, seconds)


def number_in(typed: bytes) -> bytes:
    found = re.search(rb"echo cede-'([0-9a-f]{16})'-begin", typed)
    assert found is not None
    return found[1]


def ready(typed: bytes) -> list[bytes]:
    """What a shell says that was asked to read the command itself: the line's echo, and the mark."""
    return [typed + b"\r\n", b"cede-ready\r\n"]


def shell(answer: str, *, around: str = "{}", prompt: bytes = PROMPT) -> Line:
    """A shell with echo; `around` is a template for all that comes between the echo and the prompt."""

    def says(typed: bytes) -> list[bytes]:
        if b"ready" in typed:
            return ready(typed)
        if b"begin" not in typed:
            return [b"\r\n" + prompt]
        mark = "cede-" + number_in(typed).decode()
        said = around.format(f"{mark}-begin\n{answer}{mark}-end\n").replace("\n", "\r\n")
        return [said.encode(), prompt]

    return Line(says)


def why(line: Line, seconds: float = 30.0) -> str:
    """The name of the error that the line brings."""
    with pytest.raises(GuestSilentError) as caught:
        line.run(seconds=seconds)
    return caught.value.name


def test_the_answer_is_what_is_between_the_marks() -> None:
    line = shell("Slot:\t0000:00:00.0\n\n")
    assert line.run() == "Slot:\t0000:00:00.0\n\n"


def test_an_empty_answer_is_an_answer() -> None:
    assert shell("").run() == ""


def test_a_half_typed_line_is_cleared_and_the_command_stays_out_of_the_history() -> None:
    line = shell("")
    line.run("lspci")
    assert line.typed[0] == b"\x15\r"
    assert line.typed[1] == b" echo cede'-'ready;eval \"$(head -n1)\"\r"
    assert re.fullmatch(rb"echo cede-.*; lspci; echo cede-.*\r", line.typed[2])


def test_the_prompt_after_the_answer_is_taken_along_when_the_console_is_left() -> None:
    """Half of it would be left else, where the other end drops what nobody listens to."""
    line = shell("x\n")
    asked = console_channel.ConsoleChannel(line, clock=lambda: line.now)
    assert asked.run("lspci", 30) == "x\n"
    asked.leave()
    assert line.receive(0) is None


def test_every_run_has_marks_of_its_own() -> None:
    numbers = set()
    for _ in range(3):
        line = shell("")
        line.run()
        numbers.add(number_in(line.typed[2]))
    assert len(numbers) == 3


@pytest.mark.parametrize(
    "prompt",
    [
        b"# ",
        b"$ ",
        b"%",
        b"pv1 > ",
        b"root@pv1 ~> ",
        b"[root@pv1 ~]# ",
        b"\x1b[1;32mroot\x1b[0m# ",
        b"\x1b[7m%\x1b[27m    \r \r\x1b[Jroot@pv1 ~\r\n# \x1b[K\x1b[60C12:00\x1b[65D",
    ],
)
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


def test_a_kernels_message_over_the_prompt_hides_nothing_and_needs_no_other_enter() -> None:
    answering = shell("x\n")

    def after_a_message(typed: bytes) -> list[bytes]:
        if typed == b"\x15\r":
            return [PROMPT + b"[ 9.9] e1000e: up\r\n[   10.123456] e1000e: down\r\n"]
        return list(answering._says(typed))

    line = Line(after_a_message)
    assert line.run() == "x\n"
    assert [typed == b"\x15\r" for typed in line.typed] == [True, False, False]


def test_at_a_prompt_on_the_screen_a_command_is_typed_without_an_enter_and_without_a_wait() -> None:
    line = shell("x\n")
    line._out = iter([b"\r\n" + PROMPT])
    assert line.run() == "x\n"
    assert [b"ready" in line.typed[0], len(line.typed)] == [True, 2]
    assert line.now < 101.0


def test_the_price_of_a_warm_console_that_shows_nothing_is_one_second() -> None:
    line = shell("x\n")
    assert line.run() == "x\n"
    assert 101.0 <= line.now < 101.2


ASKING = (
    b"Pass 1: Checking inodes\r\nInode 12 has illegal blocks.  Clear<y>? ",
    b"/dev/xvda1: UNEXPECTED INCONSISTENCY\r\nFix<y>? yes\r\n\r\nClear",
    b"Press any key to continue",
    b"Press any key to continue\r\n",
    b"\x1b[2J\x1b[1;1HGNU GRUB  version 2.12\x1b[20;1H*Debian GNU/Linux",
    b"After this operation, 12 MB will be used.\r\nDo you want to continue? [Y/n] ",
    b"*** x (Y/I/N/O/D/Z) [default=N] ? ",
    b"ALERT!  UUID=1 does not exist.  Dropping to a shell!\r\n\r\n(initramfs) ",
    b"Press Enter for maintenance\r\n(or press Control-D to continue): ",
    b"Give root password for maintenance\r\n(or type Control-D to continue): ",
    b"Continue anyway <yes> ",
    b"Proceed (y/N)? > ",
    b"Really delete all of it? # ",
    b"Overwrite [y/N] # ",
    b"Enter a number: > ",
    b"Command (m for help): ",
    b"Shell> ",
    b"FS0:\\> ",
    b"SAC>",
    b"Please select (1-3) ",
    b"Starting file system check... ",
    b"root@pv1:~# rm -rf /srv",
)


@pytest.mark.parametrize("shown", ASKING)
def test_what_waits_on_the_screen_is_never_answered_with_a_byte(shown: bytes) -> None:
    line = Line(lambda _: [b"answered"], shown=[shown])
    assert why(line, seconds=20.0) == "console-busy"
    assert b"".join(line.typed) == b""


@pytest.mark.parametrize("shown", [one for one in ASKING if not one.endswith(b"\n")])
def test_what_waits_where_nothing_was_shown_gets_one_enter_and_the_look_ends(shown: bytes) -> None:
    line = Line(lambda _: [b"\r\n" + shown])
    assert why(line, seconds=300.0) == "console-busy"
    assert line.typed == [b"\x15\r"]
    assert line.now < 104.0, "nobody waits until the guest's time is over"


def test_sixteen_questions_in_a_row_get_one_answer_however_often_cede_looks() -> None:
    questions = iter([b"\r\nClear<y>? "] * 16)
    line = Line(lambda typed: [next(questions)] * typed.count(b"\r"))
    asked = console_channel.ConsoleChannel(line, clock=lambda: line.now)
    for _ in range(5):
        with raises(GuestSilentError, "console-busy"):
            asked.run("lspci", 30.0)
    asked.leave()
    assert b"".join(line.typed).count(b"\r") == 1
    assert len(list(questions)) == 15


def test_a_guest_that_prints_without_a_second_of_silence_is_typed_nothing_into() -> None:
    line = Line(lambda _: [], shown=[b"tick\r\n", None] * 10, pace=0.5)
    shows = iter([b"tick\r\n"] * 10_000)
    line._out = shows
    assert why(line, seconds=20.0) in {"no-answer", "console-busy"}
    assert line.typed == []


def test_a_guest_that_crashes_into_a_file_system_check_is_left_with_its_question() -> None:
    def says(typed: bytes) -> Iterable[bytes]:
        if typed == b"\x15\r":
            return [b"\r\n" + PROMPT]
        return [b"\r\n[    0.000000] Linux version 6.12\r\n", b"Inode 12: Clear<y>? "]

    line = Line(says)
    asked = console_channel.ConsoleChannel(line, clock=lambda: line.now)
    with pytest.raises(GuestSilentError):
        asked.run("lspci", 60.0)
    before = len(line.typed)
    asked.leave()
    assert len(line.typed) == before == 2


def test_a_domain_that_is_gone_is_left_at_once_though_its_console_stays_open() -> None:
    line = Line(lambda _: [])
    asked = console_channel.ConsoleChannel(
        line, clock=lambda: line.now, ended=lambda: line.now >= 102.0
    )
    with raises(GuestSilentError, "domain-ended"):
        asked.run("lspci", 300.0)
    assert line.now < 106.0


def test_a_shells_words_after_a_login_are_waited_for_and_nothing_is_typed_meanwhile() -> None:
    class Slow(Getty):
        def __call__(self, typed: bytes) -> Iterable[Any]:
            if typed == b"lab\r":
                said = list(super().__call__(typed))
                return [said[0], *[None] * 8, *said[1:]]
            return super().__call__(typed)

    getty = Slow()
    assert console_at(getty, "slow").run("lspci", 60) == "x\n"
    assert getty.typed[:3] == [b"\x15\r", b"root\r", b"lab\r"]
    assert b"ready" in getty.typed[3]


@given(st.integers(1, 7))
def test_it_doesnt_matter_in_what_pieces_the_answer_comes(size: int) -> None:
    whole = shell("Slot:\t0000:00:00.0\n")

    def cut(typed: bytes) -> list[bytes]:
        said = b"".join(whole._says(typed))
        return [said[i : i + size] for i in range(0, len(said), size)]

    assert Line(cut).run() == "Slot:\t0000:00:00.0\n"


def test_the_echo_of_the_command_is_never_its_answer() -> None:
    def echo_only(typed: bytes) -> list[bytes]:
        return (
            ready(typed)
            if b"ready" in typed
            else [b"\r\n" + PROMPT if typed == b"\x15\r" else typed + b"\r\n"]
        )

    assert why(Line(echo_only)) == "no-answer"


@pytest.mark.parametrize(
    "forged",
    [
        b"cede-0123456789abcdef-begin\r\nSlot:\tforged\r\ncede-0123456789abcdef-end\r\n",
        b"cede-begin\r\nx\r\ncede-end\r\n",
    ],
)
def test_marks_with_another_number_are_no_marks(forged: bytes) -> None:
    def says(typed: bytes) -> list[bytes]:
        if b"ready" in typed:
            return ready(typed)
        return [b"\r\n" + PROMPT] if typed == b"\x15\r" else [typed, b"\r\n", forged, PROMPT]

    assert why(Line(says)) == "no-answer"


def test_an_end_mark_inside_a_line_ends_nothing() -> None:
    def says(typed: bytes) -> list[bytes]:
        if typed == b"\x15\r":
            return [b"\r\n" + PROMPT]
        if b"ready" in typed:
            return ready(typed)
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
    with raises(GuestSilentError, "login-required") as caught:
        line.run()
    assert "`password_file`" in caught.value.remedy
    assert line.typed == [b"\x15\r"]


def test_a_silent_guest_is_waited_for_as_long_as_was_said_and_no_longer() -> None:
    line = Line(lambda _: [])
    assert why(line, seconds=7.0) == "no-answer"
    assert line.now == pytest.approx(107.0)
    assert set(line.typed) == {b"\x15\r"}


def test_a_guest_that_never_stops_printing_ends_by_its_size() -> None:
    assert why(Line(lambda _: [b"y\r\n" * 10000] * 100)) == "console-floods"


def test_a_guest_that_never_stops_printing_slowly_ends_by_the_time() -> None:
    line = Line(lambda _: [b"tick\r\n"] * 10000, pace=1.0)
    assert why(line) == "no-answer"
    assert line.now <= 132.0


def test_a_line_that_closes_says_so() -> None:
    assert why(Line(lambda _: [b"\r\n", b""])) == "console-closed"


@pytest.mark.parametrize(
    "shown",
    [
        b">>> ",
        b"> ",
        b"quote> ",
        b"mysql> ",
        b"MariaDB [(none)]> ",
        b"sqlite> ",
        b"db=# ",
        b"db-> ",
        b"sftp> ",
        b"irb(main):001:0> ",
        b"pv1 50%",
        b"\x1b[24;1H\x1b[Kline $ ",
        b"\x1b[?1049h\x1b[1;24r# ",
        b"\x1b[7m(END)\x1b[27m\x1b[K",
        b"--More--(24%)",
        b"[sudo] password for admin",
    ],
)
def test_at_what_is_no_shells_prompt_nothing_is_typed_but_the_one_question(shown: bytes) -> None:
    line = Line(lambda _: [b"\r\n" + shown])
    why(line)
    assert set(line.typed) == {b"\x15\r"}


def test_a_screen_that_was_painted_while_the_guest_booted_is_forgotten_when_it_goes_on() -> None:
    line = shell("x\n")
    line._out = iter([b"\x1b[5;10HGRUB  version 2.12\x1b[20;1H", None, b"\r\n[ 0.1] Linux\r\n"])
    assert line.run() == "x\n"
    assert line.typed[0] == b"\x15\r"


def test_a_prompt_that_comes_with_noise_behind_it_is_waited_for() -> None:
    """`$` at the end of a piece, in the middle of a message."""
    shells = shell("x\n")

    def says(typed: bytes) -> Iterable[bytes]:
        if typed == b"\x15\r":
            return [b"\r\nthe variable $", b"HOME is set\r\n", PROMPT]
        return shells._says(typed)

    line = Line(says)
    assert line.run() == "x\n"
    assert [b"ready" in typed for typed in line.typed] == [False, True, False]


def test_a_message_in_the_middle_of_a_mark_makes_it_ask_again() -> None:
    shells = shell("x\n")
    broken = iter([True])

    def says(typed: bytes) -> Iterable[bytes]:
        if b"begin" in typed and next(broken, False):
            mark = b"cede-" + number_in(typed)
            return [
                b"\r\n" + mark + b"-begin\r\nx\r\n" + mark,
                b"[ 9.9] eth0: up\r\n-end\r\n",
                PROMPT,
            ]
        return shells._says(typed)

    assert Line(says).run() == "x\n"


def test_a_lost_sign_that_the_shell_reads_gives_it_nothing_to_do_and_asks_again() -> None:
    shells = shell("x\n")
    lost = iter([True])

    def says(typed: bytes) -> Iterable[bytes]:
        if b"ready" in typed and next(lost, False):
            return [typed + b"\r\n", b"cede-[ 9.9] eth0: up\r\n"]
        return shells._says(typed)

    line = Line(says)
    assert line.run() == "x\n"
    assert b"\r" in line.typed


def test_nothing_is_typed_into_a_shell_that_doesnt_say_that_it_reads() -> None:
    line = Line(lambda typed: [b"\r\n" + PROMPT] if typed == b"\x15\r" else [])
    why(line)
    assert not any(b"lspci" in typed for typed in line.typed)


class Getty:
    """A login, and behind it a shell; it counts the logins that it refused."""

    def __init__(self, password: str = "lab") -> None:
        self.password = password
        self.shell = shell("x\n", prompt=b"pv2:~# ")
        self.state = "login"
        self.refused = 0
        self.typed: list[bytes] = []

    def __call__(self, typed: bytes) -> Iterable[bytes]:
        self.typed.append(typed)
        line = typed.strip(b"\x15\r ").decode()
        match self.state, line:
            case "login", "":
                return [b"\r\npv2 login: "]
            case "login", _:
                self.state = "password"
                return [typed + b"\r\n", b"Password: "]
            case "password", self.password:
                self.state = "shell"
                return [b"\r\nLast login: Tue Nov 24 on hvc0\r\n", b"pv2:~# "]
            case "password", _:
                self.state = "login"
                self.refused += 1
                return [b"\r\nLogin incorrect\r\n", b"pv2 login: "]
            case _, "exit" | "\x03":
                self.state = "login"
                return [b"\r\nlogout\r\n", b"pv2 login: "]
        return self.shell._says(typed)


def console_at(getty: Getty, guest: str, password: str = "lab") -> console_channel.ConsoleChannel:
    line = Line(getty)
    login = Login(guest=guest, user="root", password=password, changed=len(password))
    return console_channel.ConsoleChannel(line, login, clock=lambda: line.now)


def test_a_login_is_answered_with_user_and_password_and_logged_out_of_in_the_end() -> None:
    getty = Getty()
    asked = console_at(getty, "a")
    assert (asked.run("lspci", 30), asked.run("lspci", 30)) == ("x\n", "x\n")
    assert getty.typed[1:3] == [b"root\r", b"lab\r"]
    asked.leave()
    assert (getty.state, getty.typed[-1]) == ("login", b" exit\r")


def test_who_was_logged_in_before_stays_so() -> None:
    getty = Getty()
    getty.state = "shell"
    asked = console_at(getty, "a")
    asked.run("lspci", 30)
    asked.leave()
    assert getty.state == "shell"


def test_a_wrong_password_is_said_and_never_tried_twice() -> None:
    getty = Getty()
    for _ in range(3):
        with raises(GuestSilentError, "login-refused", "root"):
            console_at(getty, "b", "wrong").run("lspci", 30)
    assert getty.refused == 1
    assert console_at(getty, "b").run("lspci", 30) == "x\n"


def test_a_login_that_is_asked_for_once_more_before_the_password_is_not_refused() -> None:
    """agetty prints its prompt anew, and the name that was typed comes back behind it a moment later."""

    class Slow(Getty):
        def __call__(self, typed: bytes) -> Iterable[Any]:
            if typed == b"root\r":
                return [b"\r\npv2 login: ", None, None, None, *super().__call__(typed)]
            return super().__call__(typed)

    assert console_at(Slow(), "c").run("lspci", 30) == "x\n"


def test_a_login_that_never_asks_for_a_password_is_not_taken_for_a_wrong_one() -> None:
    class Closed(Getty):
        def __call__(self, typed: bytes) -> Iterable[bytes]:
            self.typed.append(typed)
            return [b"\r\npv2 login: "]

    getty = Closed()
    for _ in range(2):
        with raises(GuestSilentError, "unexpected-prompt", "root"):
            console_at(getty, "d").run("lspci", 30)
    assert getty.typed.count(b"root\r") == 2


def test_a_password_is_typed_only_where_the_login_asked_for_it() -> None:
    """sudo's question looks the same."""
    line = Line(lambda _: [b"\r\n[sudo] password for admin: "])
    login = Login(guest="c", user="root", password="lab")
    with raises(GuestSilentError, "unexpected-prompt"):
        console_channel.ConsoleChannel(line, login, clock=lambda: line.now).run("lspci", 30)
    assert line.typed == [b"\x15\r"]


def test_a_guest_that_wants_a_new_password_is_left_to_people() -> None:
    getty = Getty()

    def says(typed: bytes) -> Iterable[bytes]:
        return [b"\r\nNew password: "] if getty.state == "password" else getty(typed)

    line = Line(says)
    asked = console_channel.ConsoleChannel(
        line, Login(guest="d", user="root", password="lab"), clock=lambda: line.now
    )
    with raises(GuestSilentError, "unexpected-prompt", "root"):
        asked.run("lspci", 30)
    asked.leave()
    assert line.typed[-1] == b"\x03"


def test_a_probe_that_fails_is_stopped_and_logged_out_of() -> None:
    getty = Getty()

    def says(typed: bytes) -> Iterable[bytes]:
        return [] if b"begin" in typed else getty(typed)

    line = Line(says)
    asked = console_channel.ConsoleChannel(
        line, Login(guest="e", user="root", password="lab"), clock=lambda: line.now
    )
    with pytest.raises(GuestSilentError):
        asked.run("sleep 1000", 10)
    asked.leave()
    assert b"\x03" in line.typed
    assert getty.state == "login"


def test_a_password_is_never_shown() -> None:
    assert "hush" not in repr(Login(guest="f", user="root", password="hush"))
    getty = Getty()
    with pytest.raises(GuestSilentError) as caught:
        console_at(getty, "f", "hush").run("lspci", 30)
    assert "hush" not in caught.value.message + caught.value.remedy


def test_a_guest_that_no_longer_answers_is_left_as_it_is() -> None:
    getty = Getty()
    line = Line(lambda typed: getty(typed) if len(line.typed) < 6 else [])
    asked = console_channel.ConsoleChannel(
        line, Login(guest="g", user="root", password="lab"), clock=lambda: line.now
    )
    asked.run("lspci", 30)
    started = line.now
    asked.leave()
    assert line.now - started <= 5.0


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (b"root@pv1:~# ", "root@pv1:~# "),
        (b"x\r\n\x1b[7m%\x1b[27m     \r \r\r\x1b[J% ", "% "),
        (b"pv1# \x1b[K\x1b[60C12:00\x1b[65D", "pv1# "),
        (b"ab\b\bcd\x1b[K", "cd"),
        (b"abc\x1b[2GX", "aX"),
        (b"abc\r", ""),
        (b"# [ 1.0] eth0: up\r\n", ""),
        (b"# \x1b[6n", "# "),
        (b"x\x1b[5C$ ", "x     $ "),
        (b"\x1b[9999C", " " * 4096),
    ],
)
def test_a_prompt_is_what_is_left_of_the_cursor(said: bytes, left: str) -> None:
    assert terminal.before_cursor(said) == left


@given(st.binary())
def test_whatever_is_printed_the_cursor_is_behind_plain_text(said: bytes) -> None:
    assert re.fullmatch(r"[\t -~]*", terminal.before_cursor(said))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=12))
def test_a_guest_that_prints_anything_at_all_is_silent_at_worst(noise: list[bytes]) -> None:
    line = Line(lambda _: noise)
    asked = console_channel.ConsoleChannel(
        line, Login(guest="h", user="root", password="lab"), clock=lambda: line.now
    )
    with pytest.raises(GuestSilentError):
        asked.run("lspci", 10)
    asked.leave()
    assert line.now <= 100.0 + 10 + 5 + 3


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
