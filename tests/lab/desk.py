"""The administrator's desk with Debian's virt-manager on it, on a display that nobody sees.

Xvfb is the display, a D-Bus session of its own carries AT-SPI, and `in_desk` works the window in that session. Nothing
listens but on unix sockets in a folder that goes with the desk.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lab.started import started, surroundings
from xenlab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_DESK = Path(__file__).with_name("in_desk.py")
SYSTEM_PYTHON = "/usr/bin/python3"  # the one that the distribution's gi is made for
_TIMEOUT = 30
_MAX_LENGTH = 240  # of an action, which waits several times for something to be seen
_LAST_WORDS = 2000


class Desk:
    """virt-manager's window of one domain, as a test works it. Every action fails with what could be seen instead."""

    def __init__(self, worker: subprocess.Popen[bytes], folder: Path) -> None:
        self._worker = worker
        self._folder = folder

    def rows(self) -> list[str]:
        """The names of the rows in the list of hardware, such as "PCI 0000:01:00.0"."""
        names: list[str] = self._do("rows")
        return names

    def remove(self, row: str) -> str:
        """Take out the device that has that row, and say yes; the words of the dialog that came up against it."""
        return str(self._do("remove", row=row))

    def add(self, address: str) -> str:
        """Add the host's PCI device at `address` by "Add Hardware"; words as above."""
        return str(self._do("add", address=address))

    def retitle(self, title: str) -> str:
        """Give the domain another title, and apply; words as above."""
        return str(self._do("retitle", title=title))

    def console(self) -> str:
        """Turn to the console's page; the text that stands there."""
        return str(self._do("console"))

    def type(self, text: str) -> None:
        r"""Type on the console's page; "\n" is the enter key."""
        self._do("type", text=text)

    def _do(self, what: str, **how: str) -> Any:  # noqa: ANN401 - what in_desk answers
        asked, reported = self._worker.stdin, self._worker.stdout
        assert asked
        assert reported
        asked.write(json.dumps({"do": what, **how}).encode() + b"\n")
        asked.flush()
        answer = json.loads(_line(reported, _MAX_LENGTH) or '{"failed": "no answer"}')
        assert "failed" not in answer, f"{what} {how}: {answer['failed']}\n{self._last_words()}"
        return answer["answer"]

    def _last_words(self) -> str:
        return "\n".join(
            f"{log.name}: {log.read_text(errors='replace')[-_LAST_WORDS:]}"
            for log in sorted(self._folder.glob("*.log"))
        )


@contextmanager
def desk(uri: str, domain: str) -> Iterator[Desk]:
    """virt-manager with the window of a domain open, at a libvirt of that URI, until the test is done with it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="desk-")))
        env = surroundings(folder)
        env["DISPLAY"] = f":{stack.enter_context(_display(folder, env))}"
        bus = folder / "bus"
        env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
        # at-spi's own bus and registry are begun by this one, and end with it
        session = ("dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}")
        stack.enter_context(started(session, folder / "dbus.log", env=env))
        assert wait_until(bus.exists, timeout=_TIMEOUT), "no D-Bus session"
        argv = ("virt-manager", "--no-fork", "--connect", uri, "--show-domain-editor", domain)
        stack.enter_context(started(argv, folder / "virt-manager.log", env=env))
        worker = stack.enter_context(
            started(
                (SYSTEM_PYTHON, "-P", str(IN_DESK)),
                folder / "in_desk.log",
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        one = Desk(worker, folder)
        one.rows()
        yield one


@contextmanager
def _display(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """The number of a display that was free."""
    said, tells = os.pipe()
    argv = ("Xvfb", "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp")
    with (
        os.fdopen(said, "rb") as number,
        os.fdopen(tells, "wb") as reported,
        started(argv, folder / "Xvfb.log", env=env, stdout=reported),
    ):
        reported.close()
        chosen = _line(number, _TIMEOUT).decode().strip()
        assert chosen, f"no display: {(folder / 'Xvfb.log').read_text(errors='replace')}"
        yield chosen


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line, or nothing if none comes within so many seconds."""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        return stream.readline() if ready.select(seconds) else b""
