"""The adapter to the daemons that everybody on dom0 shares: what is wrong with a libvirtd or xenstored that is silent.

It asks the kernel, never the daemon: whether its process is there, and whether that computes, waits or was stopped.
Sources: proc(5) (/proc/pid/stat, /proc/pid/wchan); libvirt, docs/daemons.rst (libvirtd, or virtxend for Xen alone);
Xen, tools/xenstored (xenstored, or oxenstored; none where xenstore has a domain of its own).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cede.errors import LIBVIRT_SILENT
from cede.util.kernel_files import listing, text
from cede.util.text import number, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from cede.errors import CedeError
    from cede.util.clock import Clock

_SAMPLE_SECONDS = 0.5
_SPINNING = 0.5  # of a processor
_UTIME, _STIME = 11, 12  # behind the state in /proc/pid/stat
_STOPPED, _UNINTERRUPTIBLE, _DEAD = ("T", "t"), "D", ("Z", "X")
_MAX_PROCESSES = 65536
_LIBVIRT, _XENSTORE = "libvirt", "xenstore"
# the names of errors that say that a daemon is silent, or that some call hung
_ASKED = {
    LIBVIRT_SILENT: _LIBVIRT,
    "libvirt-unreachable": _LIBVIRT,
    "hung": _LIBVIRT,
    "xenstore-unreachable": _XENSTORE,
}
State = Literal["gone", "stopped", "spinning", "blocked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDaemon:
    """`processes` are its names, `sockets` where it listens below /run; `remedy` is what ends its silence."""

    name: str
    processes: tuple[str, ...]
    sockets: tuple[str, ...]
    remedy: str


DAEMONS = {
    _LIBVIRT: SharedDaemon(
        name="libvirt's daemon",
        processes=("virtxend", "libvirtd"),
        sockets=("libvirt/virtxend-sock", "libvirt/libvirt-sock"),
        remedy="systemctl restart {unit} (guests and their devices stay as they are)",
    ),
    _XENSTORE: SharedDaemon(
        name="xenstored",
        processes=("xenstored", "oxenstored"),
        sockets=("xenstored/socket",),
        remedy="xenstored can't be restarted without the guests: shut them down as far as they still answer, then"
        " reboot the host",
    ),
}


class SharedDaemons:
    """Looks below `proc` and `run`; `libxl_logs` is where libvirt logs what libxl does, a file for each domain."""

    def __init__(self, proc: Path, run: Path, libxl_logs: Path, clock: Clock) -> None:
        self._proc = proc
        self._run = run
        self._libxl_logs = libxl_logs
        self._clock = clock

    def explain(self, silence: CedeError) -> CedeError:
        """Return the error with what is wrong with the daemon that was asked, and the remedy; takes half a second.

        What is no daemon's silence is returned as it is. A daemon that computes is not to blame where it refused: it
        has answered. One that waits is to blame only where it was asked and its time ran out: another call may have
        hung elsewhere.
        """
        of = _ASKED.get(silence.name)
        if of is None:
            return silence
        daemon = DAEMONS[of]
        pid, process = self._process(daemon)
        state, how = self._state(daemon, pid)
        timed_out = silence.name == LIBVIRT_SILENT or isinstance(silence.__cause__, TimeoutError)
        answered = not timed_out and silence.name == f"{of}-unreachable"
        if state is None or (state == "blocked" and not timed_out):
            return silence
        if state == "spinning" and answered:  # it computes because it has just started, say
            return silence
        unit = process or "libvirtd"
        who = f"{process} (pid {pid})" if pid is not None else daemon.name
        remedies: dict[State, str] = {
            "gone": f"systemctl start {unit if of == _LIBVIRT else 'xenstored'}",
            "stopped": f"kill -CONT {pid}",
        }
        return type(silence)(
            f"{who} {how}, and does not answer: {silence.message}",
            name=f"{of}-{state}",
            remedy=remedies.get(state) or daemon.remedy.format(unit=unit),
        )

    def _process(self, daemon: SharedDaemon) -> tuple[int | None, str]:
        """Return the number and the name of the daemon's process; None and nothing if there is none."""
        found: dict[str, int] = {}
        for name in listing(self._proc)[:_MAX_PROCESSES]:
            pid = number(name)
            comm = text(self._proc / name / "comm") if pid is not None else ""
            if pid is not None and comm in daemon.processes:
                found.setdefault(comm, pid)
        first = next((name for name in daemon.processes if name in found), None)
        return (None, "") if first is None else (found[first], first)

    def _state(self, daemon: SharedDaemon, pid: int | None) -> tuple[State | None, str]:
        """Return what is wrong with the process, and that in words; None if nothing can be told."""
        listens = any((self._run / socket).exists() for socket in daemon.sockets)
        if pid is None:
            # without its socket xenstore may have a domain of its own
            known = bool(text(self._proc / "stat")) and (listens or daemon is DAEMONS[_LIBVIRT])
            return ("gone", "does not run") if known else (None, "")
        if not listens:
            return "gone", "runs and has no socket"
        state, before = self._sampled(pid)
        started = self._clock.monotonic()
        self._clock.sleep(_SAMPLE_SECONDS)
        state, after = self._sampled(pid)
        if before is None or after is None or state in _DEAD:
            return "gone", "has just ended"
        if state in _STOPPED:
            return "stopped", "was stopped by a signal"
        took = max(_SAMPLE_SECONDS, self._clock.monotonic() - started)
        share = (after - before) / os.sysconf("SC_CLK_TCK") / took
        if share >= _SPINNING:
            return "spinning", f"spins, on {share:.0%} of a processor"
        where = (
            one_line(text(self._proc / str(pid) / "wchan"), 40) if state == _UNINTERRUPTIBLE else ""
        )
        return (
            "blocked",
            f"waits{f' in the kernel ({where})' if where else ''}{self._about(daemon)}",
        )

    def _sampled(self, pid: int) -> tuple[str, int | None]:
        """Return the state of a process and the processor time that it has used, in ticks; None if it is gone."""
        fields = text(self._proc / str(pid) / "stat").rpartition(")")[2].split()
        if len(fields) <= _STIME:
            return "", None
        user, system = number(fields[_UTIME]), number(fields[_STIME])
        return fields[0], None if user is None or system is None else user + system

    def _about(self, daemon: SharedDaemon) -> str:
        """Return the domain of which libxl logged last, which is mostly the one that libvirt waits for."""
        if daemon is not DAEMONS[_LIBVIRT]:
            return ""
        newest = max(
            (
                (found.stat().st_mtime, found.stem)
                for found in self._libxl_logs.glob("*.log")
                if found.stem != "libxl-driver"
            ),
            default=None,
        )
        return f", last at work on the domain {one_line(newest[1], 60)}" if newest else ""
