"""Counts the calls that libvirtd gets, by its own log, which virt-admin turns on and sets back.

Source: libvirt, src/rpc/virnetserverclient.c (RPC_SERVER_CLIENT_MSG_RX), src/remote/remote_protocol.x (the number of
the program), docs/manpages/virt-admin.rst (daemon-log-filters).
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Run = Callable[[Sequence[str]], str]

_ADMIN = ("virt-admin", "-c", "libvirtd:///system")
_FILTER = "2:rpc.netserverclient"
# a message that a client sent: type 0 is a call
_CALL = re.compile(r"RPC_SERVER_CLIENT_MSG_RX: .*\bprog=536903814 .*\btype=0\b")
_SECONDS = 30


class NoCallsError(Exception):
    """The calls can't be counted; says why."""


def count_calls(log: str) -> int:
    """Return how many calls of libvirt's API a piece of libvirtd's log tells of."""
    return sum(_CALL.search(line) is not None for line in log.splitlines())


def setting_of(shown: str) -> str:
    """Return the setting that virt-admin showed after its name and a colon."""
    return shown.partition(":")[2].strip()


class Calls:
    """The log, while it is written."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0

    def since_last(self) -> int:
        """Return how many calls there were since this was asked last."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        self._read += len(new)
        return count_calls(new.decode(errors="replace"))


def _run(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCallsError(str(error)) from error
    if done.returncode != 0:
        raise NoCallsError(done.stderr.strip() or f"{argv[0]} ended with {done.returncode}")
    return done.stdout


@contextmanager
def counted(log: Path, run: Run = _run) -> Iterator[Calls]:
    """Have libvirtd write its calls to `log` meanwhile.

    Raises NoCallsError, in the beginning if it can't, and in the end if libvirtd's settings can't be set back.
    """
    names = ("daemon-log-filters", "daemon-log-outputs")
    filters, outputs = (setting_of(run((*_ADMIN, name))) for name in names)
    log.touch()
    try:
        run((*_ADMIN, names[0], f"{filters} {_FILTER}".strip()))
        run((*_ADMIN, names[1], f"{outputs} 2:file:{log}".strip()))
        yield Calls(log)
    finally:
        for name, before in zip(reversed(names), (outputs, filters), strict=True):
            run((*_ADMIN, name, before))
        log.unlink(missing_ok=True)
