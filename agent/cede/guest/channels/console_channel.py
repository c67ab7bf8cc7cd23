"""A shell in the guest behind a line of text such as its console.

The line carries echo, colours, boot messages and whatever else the guest prints. What stands there is read before
anything is typed: a console that shows nothing for a second gets one Enter, and a command is typed only at a shell's
prompt. Whatever else waits there (e2fsck's questions, a boot menu, "press any key") is never answered. The console is
left as it was. Nothing that comes back is ever run or shown raw.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from cede.errors import GuestSilentError
from cede.guest import probe
from cede.guest.channels.terminal import (
    Frame,
    before_cursor,
    full_screen,
    printable,
    without_kernel_messages,
)
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.guest.channels.credentials import Login
    from cede.model.pci import Address

_PROMPT = re.compile(r"[#$%>] ?$")
# what ends like a prompt and is not: a shell or Python that waits for more, a pager's 50%, psql, other programs
# or asks; fdisk's, a firmware's and a boot loader's prompts end like a shell's too
_NO_SHELL = re.compile(
    r"^\s*>+ ?$|[0-9]%$|[-=('\"*!^][#>] ?$|[?:]\s*[#$%>] ?$|<[^<>]{0,40}> ?$|[(\[<][yY](?:es)?/[nN]"
    r"|(?:sql|sqlite|sftp|ftp|telnet|nslookup|grub|boot|[Ll]oader|Shell|SAC|\\|:[0-9]{1,5}|\]|irb\(\S*)> ?$"
    r"|(?:^|\s)(?:[db]?quote|cmdsubst|heredocd?|for|while|if|then|else|pipe|cursh|function)> ?$"
)
_LOGIN = re.compile(r"(?<!Last )(?:login|[Uu]sername): ?$")
_PASSWORD = re.compile(r"[Pp]assword[^:\n]*: ?$")
_CLEAR_LINE_AND_ENTER, _INTERRUPT, _ENTER = b"\x15\r", b"\x03", b"\r"
_SILENCE = 1.0  # seconds after which the guest is taken to wait for somebody, not to be in the middle of something
_TIMEOUT = 2.0  # seconds of silence after which a command's prompt is looked for
_SILENCES = 3  # after which the mark of a shell that reads was lost; an empty line ends its reading
_SETTLING = 0.03  # seconds in which more comes if what looks like a prompt is the middle of a line
_LEAVING = 5.0  # seconds for the console to be as it was
_SILENT = ("no-answer", "the guest's console did not answer in time", "")
_MAX_BYTES = 256 * 1024
_WIDEST = 8192  # of which a kernel's messages are taken out before the last line is read
_MAX_QUOTE = 60
# The shell is asked to read the command itself: a line editor's echo costs a guest milliseconds for each character, and
# busybox's takes 1023 of them; a terminal's own line takes 4095. It is sent only when the shell says that it reads. And
# it reads by `head`: its own `read` takes one character at a time, which costs a guest more than a process.
_READY = b"cede-ready"
_RECEIVE = "echo cede'-'ready;eval \"$(head -n1)\""
_NOTHING = _ENTER


class Line(Protocol):
    """The console, as this module uses it."""

    def send(self, data: bytes) -> None:
        """Type `data`."""

    def receive(self, seconds: float) -> bytes | None:
        """Return the next output; None if there is none within `seconds`, b"" when the console was closed."""


class _Screen:
    """What the line prints, from attaching to it until it is left; each look is limited in bytes and in time."""

    def __init__(self, line: Line, clock: Callable[[], float], ended: Callable[[], bool]) -> None:
        self._line = line
        self._clock = clock
        self._ended = ended
        self._deadline = 0.0
        self._heard = 0
        self._bytes = bytearray()
        self.late = _SILENT

    def limit(self, seconds: float) -> None:
        """Begin a look that may take so many seconds."""
        self._deadline = self._clock() + seconds
        self._heard = 0
        self.late = _SILENT

    @property
    def data(self) -> bytes:
        return bytes(self._bytes)

    @property
    def last(self) -> str:
        """What stands left of the cursor; a kernel's messages, which come at any moment, are no part of it."""
        return before_cursor(without_kernel_messages(self._bytes[-_WIDEST:]))

    @property
    def blank(self) -> bool:
        """Whether nobody but the kernel has printed anything."""
        return not printable(without_kernel_messages(self.data)).strip()

    @property
    def painted(self) -> bool:
        """Whether an editor, a pager or a menu has all of it."""
        return full_screen(bytes(self._bytes[-_WIDEST:]))

    def listen(self, patience: float) -> bool:
        """Take in one more piece; False if none came within `patience`.

        Raises GuestSilentError at the deadline, at the end of the line or of the domain, and when the guest prints
        without end.
        """
        left = self._deadline - self._clock()
        data = self._line.receive(min(patience, left)) if left > 0 else None
        if data is None:
            if self._ended():
                raise GuestSilentError(
                    "the domain has ended, or lost its last device meanwhile", name="domain-ended"
                )
            if self._deadline <= self._clock():
                name, text, remedy = self.late
                raise GuestSilentError(text, name=name, remedy=remedy)
            return False
        if not data:
            raise GuestSilentError("the guest closed its console", name="console-closed")
        self._heard += len(data)
        if self._heard > _MAX_BYTES:
            raise GuestSilentError(
                "the guest's console prints without end",
                name="console-floods",
                remedy="verify again when the console is quiet, or by ssh or xenstore",
            )
        self._bytes += data
        return True

    def hear(self) -> bool:
        """Take in the next piece, and more if that ends like a question; False after a second of silence."""
        heard = self.listen(_SILENCE)
        while heard and _asks(self.last) and self.listen(_SETTLING):
            pass
        return heard

    def forget(self) -> None:
        self._bytes.clear()


class ConsoleChannel:
    """A console with a shell, as a channel into the guest; call `leave` at the end.

    `login` is used only where the console asks for a login. `frame` makes the marks of a question. `ended` tells
    whether the domain is gone, whose console may stay open.
    """

    def __init__(
        self,
        line: Line,
        login: Login | None = None,
        clock: Callable[[], float] = time.monotonic,
        frame: Callable[[], Frame] = Frame,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._line = line
        self._screen = _Screen(line, clock, ended)
        self._login = login
        self._frame = frame
        self._entered = False
        self._logged_in = False
        self._underway = False
        self._reading = False
        self._answered = False

    def probe(self, slot: Address, seconds: float) -> str:
        """See `probe.GuestChannel`."""
        return self.run(probe.command(slot), seconds)

    def run(self, command: str, seconds: float) -> str:
        """Run `command` in the shell behind the console, and return what it printed.

        `command` is cede's own text, never a guest's: one line, 4000 characters at most. A half-typed line is cleared,
        not entered. Raises GuestSilentError if no shell answers within `seconds`, the console asks for a login that is
        unknown or refused, or another program has the console.
        """
        self._screen.limit(seconds)
        while True:
            self._reach_prompt()
            answer = self._ask(command)
            if answer is not None:
                return answer

    def _ask(self, command: str) -> str | None:
        """Return the answer of the shell that shows its prompt; None if the prompt comes back without an answer."""
        frame, screen = self._frame(), self._screen
        self._underway = self._reading = True
        self._type(_RECEIVE)
        if not self._await(lambda: _READY in screen.data):
            return None
        screen.forget()
        self._line.send(frame.around(command).encode() + _ENTER)
        self._reading = False
        if not self._await(lambda: frame.answer(screen.data) is not None):
            return None
        self._underway, self._answered = False, True
        return frame.answer(screen.data)

    def _await(self, come: Callable[[], bool]) -> bool:
        """Wait until `come()`; False if the shell shows its prompt again before.

        That happens when a kernel message damages a mark.
        """
        silent, screen = 0, self._screen
        while True:
            quiet = not screen.listen(_TIMEOUT)
            if come():
                return True
            silent = silent + 1 if quiet else 0
            if quiet and b"\n" in screen.data and _is_prompt(screen.last):
                self._underway = False
                return False
            if self._reading and silent == _SILENCES:
                self._end_reading()

    def _end_reading(self) -> None:
        """End with an empty line the shell's reading, unless something else stands there by now."""
        last = self._screen.last.strip()
        echoed = _RECEIVE.endswith(last) or last.endswith(_RECEIVE)
        if echoed or _READY.decode().startswith(
            last
        ):  # of which a kernel's message cut the end off
            self._line.send(_NOTHING)

    def leave(self) -> None:
        """Leave the console as it was: nothing of cede's runs there, and cede is logged out.

        A guest that no longer answers is left alone.
        """
        screen = self._screen
        screen.limit(_LEAVING)
        with suppress(GuestSilentError):
            if self._underway:
                self._underway = False
                # a running command is interrupted
                if self._reading:
                    self._end_reading()
                else:
                    screen.forget()
                    self._line.send(_INTERRUPT)
            if self._answered:
                # what comes of the prompt once nobody listens is lost; its beginning would stand there the next time
                while not _is_prompt(screen.last) and screen.hear():
                    pass
            if self._logged_in:
                self._logged_in = False
                while not _is_prompt(screen.last):
                    screen.hear()
                self._type("exit")
                while not _LOGIN.search(screen.last):
                    screen.hear()

    def _type(self, line: str) -> None:
        self._screen.forget()
        # the blank keeps the line out of the history, where the shell is set so
        self._line.send(f" {line}".encode() + _ENTER)

    def _reach_prompt(self) -> None:
        """Get to a shell's prompt, by a login if need be. Types one Enter at most, and only where nothing stands.

        Raises GuestSilentError if something stands then that is neither, and waits.
        """
        screen = self._screen
        quiet = barred = False
        while True:
            painted, last = screen.painted, screen.last
            if not painted:
                if _is_prompt(last):
                    return
                if _LOGIN.search(last) or _PASSWORD.search(last):
                    self._log_in(self._usable_login(last))
                    return
            if quiet:
                barred = barred or painted
                self._enter_once("in full screen" if barred else last.strip())
                if painted:
                    screen.forget()  # if the guest goes on, what comes is judged afresh
            quiet = not screen.hear()
            barred = barred and quiet

    def _enter_once(self, last: str) -> None:
        """Type Enter on a console that has been silent, if nothing stands there, and if that is the first time.

        `last` is what stands left of the cursor. Raises GuestSilentError if that came after the Enter.
        """
        screen = self._screen
        if last or not screen.blank:
            shown = [line for line in printable(screen.data).split("\n") if line.strip()]
            screen.late = _busy(last or shown[-1])
            if last and self._entered:
                name, text, remedy = screen.late
                raise GuestSilentError(text, name=name, remedy=remedy)
        elif not self._entered:
            self._entered = True
            self._line.send(_CLEAR_LINE_AND_ENTER)

    def _usable_login(self, last: str) -> Login:
        """Return the login to use at that prompt. Raises GuestSilentError if there is none."""
        login = self._login
        if login is None:
            raise GuestSilentError(
                "the guest's console asks for a login",
                name="login-required",
                remedy="name `user` and `password_file` in the policy's `verify`, log in there and leave the shell"
                " open, or use another channel",
            )
        if _PASSWORD.search(last):
            raise GuestSilentError(
                "the guest's console asks for a password without a user name",
                name="unexpected-prompt",
            )
        if login.refused:
            raise _refusal(login)
        return login

    def _log_in(self, login: Login) -> None:
        """Log in, up to the shell's prompt. Types the user and the password, each once and where it is asked for."""
        screen = self._screen
        self._underway, self._reading = True, False
        screen.forget()
        self._line.send(login.user.encode() + _ENTER)
        typed = False
        while True:
            screen.hear()
            if b"\n" not in screen.data:
                continue  # the echo of what was typed
            if _PASSWORD.search(screen.last):
                if typed:
                    raise GuestSilentError(
                        f"the guest asks {login.user} for more than the password",
                        name="unexpected-prompt",
                        remedy="log in there by hand: the guest may require a new password",
                    )
                typed = True
                screen.late = _SILENT
                screen.forget()
                self._line.send(login.password.encode() + _ENTER)
            elif typed and _LOGIN.search(screen.last):
                self._underway = False
                login.note_refusal()
                raise _refusal(login)
            elif _LOGIN.search(screen.last):
                # agetty may print its prompt again before it echoes the name
                screen.late = (
                    "unexpected-prompt",
                    f"the guest asks for a login again after {login.user}, and not for the password",
                    "",
                )
            elif _is_prompt(screen.last):
                self._underway, self._logged_in = False, True
                return


def _is_prompt(last: str) -> bool:
    return _PROMPT.search(last) is not None and _NO_SHELL.search(last) is None


def _asks(last: str) -> bool:
    return _is_prompt(last) or _LOGIN.search(last) is not None or _PASSWORD.search(last) is not None


def _busy(shown: str) -> tuple[str, str, str]:
    """Return name, message and remedy for a console on which something else waits than a shell or a login."""
    return (
        "console-busy",
        f"a program other than a shell has the guest's console: {one_line(shown.strip(), _MAX_QUOTE)}",
        "answer it, or end that program, on the guest's console; cede types nothing into it",
    )


def _refusal(login: Login) -> GuestSilentError:
    return GuestSilentError(
        f"the guest refused the login of {login.user}",
        name="login-refused",
        remedy="correct the password file; cede tries a wrong password only once",
    )
