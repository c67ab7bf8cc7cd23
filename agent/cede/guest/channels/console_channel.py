"""A shell in the guest behind a line of text such as its console.

The line carries echo, colours, boot messages and whatever else the guest prints. A command is typed only at a shell's
prompt, and the console is left as it was. Nothing that comes back is ever run or shown raw.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from cede.errors import GuestSilentError
from cede.guest import probe
from cede.guest.channels.terminal import Frame, before_cursor, full_screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.guest.channels.credentials import Login
    from cede.model.pci import Address

_PROMPT = re.compile(r"[#$%>] ?$")
# what ends like a prompt and is not: a shell or Python that waits for more, a pager's 50%, psql, other programs
_NO_SHELL = re.compile(
    r"^\s*>+ ?$|[0-9]%$|[-=('\"*!^][#>] ?$"
    r"|(?:sql|sqlite|sftp|ftp|telnet|nslookup|grub|\]|irb\(\S*)> ?$"
    r"|(?:^|\s)(?:[db]?quote|cmdsubst|heredocd?|for|while|if|then|else|pipe|cursh|function)> ?$"
)
_LOGIN = re.compile(r"(?<!Last )(?:login|[Uu]sername): ?$")
_PASSWORD = re.compile(r"[Pp]assword[^:\n]*: ?$")
_CLEAR_LINE_AND_ENTER, _INTERRUPT, _ENTER = b"\x15\r", b"\x03", b"\r"
_TIMEOUT = 2.0  # seconds of silence after which a question is asked again
_SILENCES = 3  # after which the mark of a shell that reads was lost; an empty line ends its reading
_SETTLING = 0.03  # seconds in which more comes if what looks like a prompt is the middle of a line
_LEAVING = 5.0  # seconds for the console to be as it was
_SILENT = ("no-answer", "the guest's console did not answer in time")
_MAX_BYTES = 256 * 1024
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


class _Listener:
    """Collects what the line prints, limited in bytes and in time."""

    def __init__(self, line: Line, deadline: float, clock: Callable[[], float]) -> None:
        self._line = line
        self._deadline = deadline
        self._clock = clock
        self._heard = 0
        self._bytes = bytearray()
        self.late = _SILENT

    @property
    def now(self) -> float:
        return self._clock()

    @property
    def data(self) -> bytes:
        return bytes(self._bytes)

    @property
    def last(self) -> str:
        """What stands left of the cursor."""
        return before_cursor(self.data)

    def listen(self, patience: float) -> bool:
        """Take in one more piece; False if none came within `patience`.

        Raises GuestSilentError at the deadline, at the end of the line, and when the guest prints without end.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            name, text = self.late
            raise GuestSilentError(text, name=name)
        data = self._line.receive(min(patience, left))
        if data is None:
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
        """Take in the next piece, and more if that ends like a question; False if none came."""
        heard = self.listen(_TIMEOUT)
        while heard and _asks(self.last) and self.listen(_SETTLING):
            pass
        return heard

    def forget(self) -> None:
        self._bytes.clear()


class ConsoleChannel:
    """A console with a shell, as a channel into the guest; call `leave` at the end.

    `login` is used only where the console asks for a login. `frame` makes the marks of a question.
    """

    def __init__(
        self,
        line: Line,
        login: Login | None = None,
        clock: Callable[[], float] = time.monotonic,
        frame: Callable[[], Frame] = Frame,
    ) -> None:
        self._line = line
        self._login = login
        self._clock = clock
        self._frame = frame
        self._logged_in = False
        self._underway = False
        self._reading = False

    def probe(self, slot: Address, seconds: float) -> str:
        """See `probe.GuestChannel`."""
        return self.run(probe.command(slot), seconds)

    def run(self, command: str, seconds: float) -> str:
        """Run `command` in the shell behind the console, and return what it printed.

        `command` is cede's own text, never a guest's: one line, 4000 characters at most. A half-typed line is cleared
        first, not entered. Raises GuestSilentError if no shell answers within `seconds`, the console asks for a login
        that is unknown or refused, or another program has the console.
        """
        listener = _Listener(self._line, self._clock() + seconds, self._clock)
        while True:
            self._reach_prompt(listener)
            answer = self._ask(listener, command)
            if answer is not None:
                return answer

    def _ask(self, listener: _Listener, command: str) -> str | None:
        """Return the answer of the shell that shows its prompt; None if the prompt comes back without an answer."""
        frame = self._frame()
        self._underway = self._reading = True
        self._type(listener, _RECEIVE)
        if not self._await(listener, lambda: _READY in listener.data):
            return None
        listener.forget()
        self._line.send(frame.around(command).encode() + _ENTER)
        self._reading = False
        if not self._await(listener, lambda: frame.answer(listener.data) is not None):
            return None
        self._underway = False
        return frame.answer(listener.data)

    def _await(self, listener: _Listener, come: Callable[[], bool]) -> bool:
        """Wait until `come()`; False if the shell shows its prompt again before.

        That happens when a kernel message damages a mark.
        """
        silent = 0
        while True:
            quiet = not listener.listen(_TIMEOUT)
            if come():
                return True
            silent = silent + 1 if quiet else 0
            if quiet and b"\n" in listener.data and _is_prompt(listener.last):
                return False
            if self._reading and silent == _SILENCES:
                self._line.send(_NOTHING)

    def leave(self) -> None:
        """Leave the console as it was: nothing of cede's runs there, and cede is logged out.

        A guest that no longer answers is left alone.
        """
        listener = _Listener(self._line, self._clock() + _LEAVING, self._clock)
        with suppress(GuestSilentError):
            if self._underway:
                self._underway = False
                # an empty line ends the reading; a running command is interrupted
                self._line.send(_NOTHING if self._reading else _INTERRUPT)
            if self._logged_in:
                self._logged_in = False
                self._line.send(_CLEAR_LINE_AND_ENTER)
                while not _is_prompt(listener.last):
                    listener.hear()
                self._type(listener, "exit")
                while not _LOGIN.search(listener.last):
                    listener.hear()

    def _type(self, listener: _Listener, line: str) -> None:
        listener.forget()
        # the blank keeps the line out of the history, where the shell is set so
        self._line.send(f" {line}".encode() + _ENTER)

    def _reach_prompt(self, listener: _Listener) -> None:
        """Get to a shell's prompt, by a login if need be."""
        entered = listener.now
        listener.forget()
        self._line.send(_CLEAR_LINE_AND_ENTER)
        barred = False
        while True:
            heard = listener.hear()
            painting = full_screen(listener.data)
            if heard and not painting:
                if _is_prompt(listener.last):
                    return
                if _LOGIN.search(listener.last) or _PASSWORD.search(listener.last):
                    self._log_in(listener, self._usable_login(listener.last))
                    return
            if heard and listener.now < entered + _TIMEOUT:
                continue
            if listener.data and not heard:
                barred = painting or _NO_SHELL.search(listener.last) is not None
                listener.forget()
            if barred:
                # whatever cede types would go to that program
                listener.late = (
                    "other-program",
                    "a program other than a shell has the guest's console",
                )
            elif not painting:
                entered = listener.now
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

    def _log_in(self, listener: _Listener, login: Login) -> None:
        """Log in, up to the shell's prompt."""
        self._underway = True
        listener.forget()
        self._line.send(login.user.encode() + _ENTER)
        typed = False
        while True:
            heard = listener.hear()
            if b"\n" not in listener.data:
                continue  # the echo of what was typed
            if _PASSWORD.search(listener.last):
                if typed:
                    raise GuestSilentError(
                        f"the guest asks {login.user} for more than the password",
                        name="unexpected-prompt",
                        remedy="log in there by hand: the guest may require a new password",
                    )
                typed = True
                listener.late = _SILENT
                listener.forget()
                self._line.send(login.password.encode() + _ENTER)
            elif typed and _LOGIN.search(listener.last):
                self._underway = False
                login.note_refusal()
                raise _refusal(login)
            elif _LOGIN.search(listener.last):
                # agetty may print its prompt again before it echoes the name
                listener.late = (
                    "unexpected-prompt",
                    f"the guest asks for a login again after {login.user}, and not for the password",
                )
            elif _is_prompt(listener.last):
                self._underway, self._logged_in = False, True
                return
            elif not heard and typed:
                self._line.send(_CLEAR_LINE_AND_ENTER)


def _is_prompt(last: str) -> bool:
    return _PROMPT.search(last) is not None and _NO_SHELL.search(last) is None


def _asks(last: str) -> bool:
    return _is_prompt(last) or _LOGIN.search(last) is not None or _PASSWORD.search(last) is not None


def _refusal(login: Login) -> GuestSilentError:
    return GuestSilentError(
        f"the guest refused the login of {login.user}",
        name="login-refused",
        remedy="correct the password file; cede tries a wrong password only once",
    )
