"""How the demo tells and checks: nothing is printed as so before it was seen."""

import sys
import textwrap
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .dom0 import Result
from .lab import Lab

IN_GUEST = Path(__file__).with_name("in_guest.py")
_SECONDS = 600.0  # for one command; a guest's restart takes the longest
_SIDE_BY_SIDE = 2  # while one waits for its guest the other has the processor


def in_guest(guest: str, command: str) -> tuple[str, ...]:
    """Return how dom0 has a command run on the guest's console, by IN_GUEST."""
    return ("python3", "-", guest, command)


class UntrueError(Exception):
    """Something that was about to be said isn't so."""


class Telling:
    """Says what is done, does it in dom0 or in a guest, shows what came of it, and ends where that isn't as told."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE)
        self._ahead: dict[tuple[str, ...], Future[Result]] = {}

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def say(self, text: str) -> None:
        """Print a paragraph."""
        print(f"\n=== {textwrap.fill(text, 96, subsequent_indent='    ')}", flush=True)

    def show(self, text: str) -> None:
        """Print a file."""
        print(textwrap.indent(text, "    "))

    def must(self, truth: bool, otherwise: str) -> None:
        """Raise UntrueError, with what is so instead, unless it is the truth."""
        if not truth:
            raise UntrueError(otherwise)

    def host(self, *argv: str, status: int = 0, show: bool = True) -> str:
        """Run a command in dom0 and show it; return what it printed. Raises UntrueError for another exit status."""
        if show:
            print(f"dom0# {' '.join(argv)}", flush=True)
        return self._shown(self._done(argv), argv[0], status=status, show=show)

    def guest(self, guest: str, command: str, *, typed: str = "", show: bool = True) -> str:
        """Run a command on a guest's console and show it, as `typed` if that is shorter; return what it printed."""
        if show:
            print(f"{guest}# {typed or command}", flush=True)
        return self._shown(self._done(in_guest(guest, command)), guest, status=0, show=show)

    def look_ahead(self, *commands: tuple[str, ...]) -> None:
        """Begin what only looks, side by side; it is shown when its turn comes."""
        for argv in commands:
            self._ahead[argv] = self._pool.submit(self._run, argv)

    def write(self, path: str, text: str) -> None:
        """Write a file in dom0. Raises UntrueError if that can't be."""
        done = self.lab.exec(
            ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path], stdin=text
        )
        self.must(done.returncode == 0, f"{path} can't be written in dom0")

    def _done(self, argv: tuple[str, ...]) -> Result:
        begun = self._ahead.pop(argv, None)
        return self._run(argv) if begun is None else begun.result()

    def _run(self, argv: tuple[str, ...]) -> Result:
        script = IN_GUEST.read_text() if argv[:2] == ("python3", "-") else ""
        return self.lab.exec(argv, stdin=script, timeout=_SECONDS)

    def _shown(self, done: Result, what: str, *, status: int, show: bool) -> str:
        if show:
            print(textwrap.indent(done.stdout or "(prints nothing)\n", "    "), end="", flush=True)
        if done.returncode != status:
            print(textwrap.indent(done.stdout + done.stderr, "    "), file=sys.stderr)
            raise UntrueError(f"{what} ended with {done.returncode}, not {status}")
        return done.stdout
