"""A guest's text console by its pseudo terminal, under the locks of `virsh console` and `xl console`.

Bytes that go through a libvirt stream can leave libvirtd's main loop spinning for good if the guest ends meanwhile.
Sources: Xen, tools/console/client/main.c (`xl console` and its lock), tools/console/daemon/io.c (xenconsoled, at the
other end); libvirt, src/conf/virchrdev.c (the UUCP lock of `virsh console`); pty(7).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import select
import termios
import time
import tty
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.libvirt.terminal_holders import terminal_holders
from cede.errors import GuestSilentError
from cede.util.text import number, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)
_CHUNK = 65536
SEND_SECONDS = 10.0
_PTY = re.compile(r"/dev/pts/[0-9]{1,7}\Z")
_MAX_PID_FILE = 64
_MAX_NAME = 60
_TRIES = 5
_PRIVATE, _READABLE = 0o600, 0o644


class PtyConsole:
    """An open console: what is typed goes to the guest, what the guest prints comes back.

    A guest that reads nothing is given `send_seconds`.
    """

    def __init__(self, descriptor: int, send_seconds: float = SEND_SECONDS) -> None:
        self._descriptor = descriptor
        self._send_seconds = send_seconds

    def send(self, data: bytes) -> None:
        """Type `data` into the guest. Raises GuestSilentError if the console is gone or takes nothing."""
        rest, deadline = data, time.monotonic() + self._send_seconds
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self._descriptor], [], left)[1]:
                    raise GuestSilentError(
                        "the guest's console takes no input", name="console-closed"
                    ) from None
            except OSError as error:
                raise GuestSilentError(
                    f"the guest's console was closed: {error.strerror}", name="console-closed"
                ) from error

    def receive(self, seconds: float) -> bytes | None:
        """Return what the guest printed next; None if that takes longer, b"" if the console was closed."""
        deadline = time.monotonic() + seconds
        while select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                continue  # somebody else has read it
            except OSError:  # EIO: the other end is closed
                return b""
        return None


@contextmanager
def open_pty_console(
    domain: str,
    domid: int,
    path: str,
    locks: Path = Path("/run/lock"),
    holders: Callable[[str], tuple[str, ...]] = terminal_holders,
) -> Iterator[PtyConsole]:
    """Open the console of a running domain at its pseudo terminal `path`, and keep others off meanwhile.

    `holders` tells who else has the terminal open, lock or no lock. Raises GuestSilentError if there is no such
    terminal, or if somebody else has it open.
    """
    if not _PTY.match(path):
        raise GuestSilentError(f"{domain} has no console", name="no-console")
    with ExitStack() as stack:
        stack.enter_context(
            _virsh_lock(locks / f"LCK..{path.removeprefix('/dev').replace('/', '_')}", domain)
        )
        stack.enter_context(_xl_lock(locks / f"xenconsole.{domid}", domain))
        others = holders(path)
        if others:
            raise _busy(domain, others[0])
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise GuestSilentError(
                f"the console of {domain} can't be opened: {error.strerror}", name="no-console"
            ) from error
        stack.callback(os.close, descriptor)
        with suppress(termios.error):  # it ended just now, which the first byte tells
            tty.setraw(descriptor, termios.TCSANOW)
        _LOG.debug("the console of %s is open at %s", domain, path)
        yield PtyConsole(descriptor)


def _busy(domain: str, who: str = "") -> GuestSilentError:
    by = f" ({one_line(who, _MAX_NAME)})" if who else ""
    return GuestSilentError(
        f"another session has the console of {domain}{by}; cede does not end that session",
        name="console-busy",
        remedy="close that session, then verify again",
    )


@contextmanager
def _virsh_lock(path: Path, domain: str) -> Iterator[None]:
    """Hold the file whose process id says who has the terminal; one of a process that is gone counts for nothing."""
    for _ in range(2):
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _READABLE
            )
            break
        except FileExistsError:
            if _alive(path):
                raise _busy(domain) from None
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _unlockable(domain, path, error) from error
    else:
        raise _busy(domain)
    try:
        os.write(descriptor, f"{os.getpid():10d}\n".encode())
        yield
    finally:
        if _is_at(descriptor, path):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _alive(path: Path) -> bool:
    """Whether the process that the lock names runs; one that can't be read may."""
    try:
        with path.open("rb") as file:
            pid = number(file.read(_MAX_PID_FILE).decode("ascii", "replace").strip())
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return pid is None or (pid > 0 and Path(f"/proc/{pid}").exists())


@contextmanager
def _xl_lock(path: Path, domain: str) -> Iterator[None]:
    """Hold the lock of `xl console`, in both ways that a file can be locked.

    A file that cede has made goes again while it is locked: who opened it meanwhile sees, as xl does, that it is no
    longer the one at that path.
    """
    with ExitStack() as stack:
        for _ in range(_TRIES):
            descriptor, made = _opened_lock(path, domain)
            closing = stack.enter_context(ExitStack())
            closing.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    raise _busy(domain) from None
                raise _unlockable(domain, path, error) from error
            if _is_at(descriptor, path):
                break
            closing.close()
        else:
            raise _busy(domain)
        if made:
            closing.callback(path.unlink, missing_ok=True)  # before it is closed
        yield


def _opened_lock(path: Path, domain: str) -> tuple[int, bool]:
    """Open the lock, and tell whether it was made for that."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_TRIES):
        try:
            return os.open(path, flags), False
        except FileNotFoundError:
            with suppress(FileExistsError):
                return _made_lock(path, flags, domain), True
        except OSError as error:
            raise _unlockable(domain, path, error) from error
    raise _busy(domain)


def _made_lock(path: Path, flags: int, domain: str) -> int:
    """Make the lock. Raises FileExistsError if somebody else has just made it."""
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        raise
    except OSError as error:
        raise _unlockable(domain, path, error) from error


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _unlockable(domain: str, path: Path, error: OSError) -> GuestSilentError:
    return GuestSilentError(
        f"the console of {domain} can't be locked: {path}: {error.strerror}", name="no-console"
    )
