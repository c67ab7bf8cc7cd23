"""A running QEMU: started, found again by another process, asked, and ended.

QEMU outlives `contrib/lab up`. What is known of it stands in its folder: the pid, the control
socket, its own messages and the console of Xen and dom0.
"""

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import unsaved
from .command import search_path, tail
from .errors import LabError
from .qemu import CONSOLE_LOG, QMP_SOCKET, STATE, TAG
from .qmp import Qmp, QmpError
from .waiting import wait_until

_PID = "pid"
_MESSAGES = "qemu.log"


class PortTakenError(LabError):
    """Another program took the port for ssh between choosing and using it."""


@dataclass(slots=True, kw_only=True)
class Emulator:
    """The QEMU of one folder, whether it runs or not."""

    folder: Path
    _child: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def pid(self) -> int | None:
        """Its process, or None if it does not run (any more)."""
        if self._child is not None and self._child.poll() is None:
            return self._child.pid
        try:  # another one may have started it since, also in this very process
            pid = int((self.folder / _PID).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def start(
        self, argv: Sequence[str], *, keep: Sequence[int] = (), dies_with_lab: bool = False
    ) -> None:
        """Start QEMU in its folder; return when its control socket answers.

        `keep` are file descriptors (locks) for it to hold while it lives.
        Raises PortTakenError, or LabError with QEMU's own words.
        """
        (self.folder / QMP_SOCKET).unlink(missing_ok=True)
        prefix = ["setpriv", "--pdeathsig", "KILL", "--"] if dies_with_lab else []
        with (self.folder / _MESSAGES).open("wb") as messages:
            self._child = subprocess.Popen(
                [*prefix, *argv],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
                pass_fds=keep,
                env={**os.environ, "PATH": search_path()},
            )
        (self.folder / _PID).write_text(f"{self._child.pid}\n")
        wait_until(lambda: self._answers() or self.pid is None, timeout=60, interval=0.02)
        if self.pid is None:
            raise self.failure("QEMU ended as soon as it was started")

    def stop(self) -> None:
        """End QEMU, whatever state it is in, and wait until it is gone."""
        pid = self.pid
        if pid is not None:
            process = os.pidfd_open(pid)
            try:
                self._ask_to_quit()
                if not _gone(process, timeout=5):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    _gone(process, timeout=30)
            finally:
                os.close(process)
        if self._child is not None:
            self._child.wait()
        (self.folder / _PID).unlink(missing_ok=True)

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401  QMP's answers have any shape
        """Run one QMP command. Raises QmpError if QEMU refuses, LabError if it does not run."""
        with self._monitor() as monitor:
            return monitor.execute(command, arguments)

    def await_status(self, wanted: str, *, timeout: float) -> None:
        """Wait until QEMU's run state is `expected`."""

        def reached() -> bool:
            if self.pid is None:
                raise self.failure("QEMU ended by itself")
            return bool(self.ask("query-status")["status"] == wanted)

        if not wait_until(reached, timeout=timeout):
            raise self.failure(f"QEMU did not become {wanted} within {timeout:.0f} s")

    def save(self) -> None:
        """Stop the machine and write its state to files in its folder."""
        self.ask("stop")
        with self._monitor() as monitor:
            unsaved.save(monitor, self.folder / unsaved.FILE)
        self.ask("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        self.ask("migrate", {"uri": f"file:{STATE}"})

        def finished() -> bool:
            progress = self.ask("query-migrate")
            if progress["status"] in {"failed", "cancelled"}:
                raise self.failure("QEMU could not write the snapshot")
            return bool(progress["status"] == "completed")

        if not wait_until(finished, timeout=300):
            raise self.failure("QEMU did not finish writing the snapshot")

    def go_on(self, *, timeout: float) -> None:
        """Let a machine that was started to be restored run, once its state is loaded."""
        self.await_status("paused", timeout=timeout)
        with self._monitor() as monitor:
            unsaved.restore(monitor, self.folder / unsaved.FILE)
        self.ask("cont")

    def console(self) -> str:
        """All that Xen and dom0 wrote to the serial console."""
        try:
            return (self.folder / CONSOLE_LOG).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @contextmanager
    def _monitor(self) -> Iterator[Qmp]:
        try:
            with Qmp(self.folder / QMP_SOCKET) as qmp:
                yield qmp
        except OSError as error:
            raise self.failure(f"QEMU does not answer ({error})") from error

    def _answers(self) -> bool:
        try:
            with Qmp(self.folder / QMP_SOCKET, timeout=5):
                return True
        except (OSError, QmpError):
            return False

    def _ask_to_quit(self) -> None:
        try:
            with Qmp(self.folder / QMP_SOCKET, timeout=2) as qmp:
                qmp.execute("quit")
        except (OSError, QmpError):
            return  # it is killed then

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is still the QEMU of this folder, and no other program by now."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return TAG.encode() in words and Path(f"/proc/{pid}/cwd").samefile(self.folder)
        except OSError:
            return False

    def failure(self, what: str) -> LabError:
        """An error that says `what`, with QEMU's own last words as its evidence."""
        try:
            messages = (self.folder / _MESSAGES).read_text(errors="replace")
        except FileNotFoundError:
            messages = ""
        if "Could not set up host forwarding rule" in messages:
            return PortTakenError(what, details=tail(messages))
        return LabError(what, details=tail(messages) or tail(self.console()))


def _gone(process: int, *, timeout: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
