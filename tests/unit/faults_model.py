"""What can go wrong at a door: at which call, of what kind, and how much of the call's work is done by then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Event
from typing import TypeVar

from cede.errors import HungError, PermanentError, TransientError, UnreachableError

_T = TypeVar("_T")


class Killed(BaseException):
    """SIGKILL: nothing of cede's catches it, and only what is outside of the process stays."""


class Door(StrEnum):
    LIBVIRT = "libvirt"
    SYSFS = "sysfs"
    XENSTORE = "xenstore"
    USES = "uses"
    LINKS = "links"
    KERNEL = "kernel"
    XL = "xl"
    HYPERVISOR = "hypervisor"
    JOURNAL = "journal"


class Kind(StrEnum):
    KILLED = "cede is killed"
    DIES = "its daemon dies"
    BUSY = "it is busy"
    REFUSES = "it refuses"
    HANGS = "it hangs"
    LIES = "it says done, and isn't"
    STOPPED = "a person asks cede to stop"
    HAPPENS = "on the host"


ALL = 9  # more stages than any deed has
_FITS = {
    Kind.KILLED: frozenset(Door),
    Kind.DIES: frozenset({Door.LIBVIRT, Door.XENSTORE}),
    Kind.BUSY: frozenset({Door.LIBVIRT}),
    Kind.REFUSES: frozenset(Door) - {Door.XENSTORE},
    Kind.HANGS: frozenset(Door) - {Door.USES, Door.HYPERVISOR, Door.JOURNAL},
    Kind.LIES: frozenset({Door.LIBVIRT, Door.KERNEL}),
    Kind.STOPPED: frozenset(Door),
    Kind.HAPPENS: frozenset(Door),
}
# libvirtd goes on without the cede that asked it, and a transaction is all or nothing
_WHOLE = frozenset({Door.LIBVIRT, Door.JOURNAL})


@dataclass(frozen=True, slots=True)
class Fault:
    """`done` of the deed's stages come first. A daemon that dies is away for `away` more calls.

    What `happens` is the name of one of the host's own events, before the call if nothing is `done`, else after it.
    """

    kind: Kind
    done: int = 0
    away: int = 0
    happens: str = ""


class Among(StrEnum):
    """Which calls are counted: all, those that change something, or those that change the host."""

    CALLS = "calls"
    DEEDS = "deeds"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A fault at the call of that number, counted from 0."""

    fault: Fault
    among: Among
    at: int


class Gate:
    """Every call through a door passes here, and meets there what is scheduled for it."""

    def __init__(self, happens: Callable[[str], None]) -> None:
        self._happens = happens
        self.heal()

    def heal(self) -> None:
        """From now on everything answers."""
        self._away: dict[Door, int] = {}
        self.start(())

    def start(self, schedule: Sequence[Scheduled]) -> None:
        """A new process of cede: its calls are counted from 0."""
        self._due = {(one.among, one.at): one.fault for one in schedule}
        self._passed = dict.fromkeys(Among, 0)
        self.stop = Event()
        self.met: set[tuple[Kind, Door]] = set()

    def asks(self, door: Door, answer: Callable[[], _T]) -> _T:
        """A question: it changes nothing."""
        fault = self.enter(door, deed=False)
        found = answer()
        self.leave(fault, door)
        return found

    def does(
        self,
        door: Door,
        prepare: Callable[[], Sequence[Callable[[], object]]],
        *,
        honest: bool = True,
    ) -> bool:
        """A deed in stages, which `prepare` knows once the call has come through; False if there was nothing to do.

        One that isn't `honest` may say that it was done when it wasn't.
        """
        fault = self.enter(door, deed=True)
        stages = prepare()
        for stage in stages[: self._reached(fault, door, len(stages), honest=honest)]:
            stage()
        self.leave(fault, door)
        return bool(stages)

    @staticmethod
    def _reached(fault: Fault | None, door: Door, all_of_them: int, *, honest: bool) -> int:
        """How many stages come to be done."""
        match fault.kind if fault else None:
            case Kind.KILLED if door in _WHOLE:
                return all_of_them
            case Kind.LIES if honest:
                return all_of_them
            case Kind.REFUSES | Kind.LIES:
                most = max(all_of_them - 1, 0)
            case None | Kind.HAPPENS:
                return all_of_them
            case _:
                most = all_of_them
        return min(fault.done, most) if fault else most

    def enter(self, door: Door, *, deed: bool) -> Fault | None:
        """The call comes to the door; returns the fault that it meets later on."""
        fault = self._count(door, deed=deed) if self._due else None
        if self._away.get(door):
            self._away[door] -= 1
            raise UnreachableError(f"{door} is away")
        if fault is None or door not in _FITS[fault.kind]:
            return None
        if door is Door.SYSFS and not deed and fault.kind in {Kind.REFUSES, Kind.HANGS}:
            return None  # reading a file of the kernel's is no such risk
        if fault.kind is Kind.STOPPED:
            self.stop.set()
            return None
        if fault.kind is Kind.LIES:
            return fault if deed else None
        if fault.done == 0 or not deed or (fault.kind, door) == (Kind.REFUSES, Door.JOURNAL):
            self._strike(fault, door)
            return None
        return fault

    def leave(self, fault: Fault | None, door: Door) -> None:
        """The call is done as far as the fault lets it."""
        if fault is not None:
            self._strike(fault, door)

    def _count(self, door: Door, *, deed: bool) -> Fault | None:
        """Count the call; returns what is due at it, one fault at most."""
        counted = [Among.CALLS]
        if deed:
            counted.append(Among.DEEDS)
            if door is not Door.JOURNAL:
                counted.append(Among.CHANGES)
        found = None
        for among in counted:
            found = self._due.pop((among, self._passed[among]), None) or found
            self._passed[among] += 1
        return found

    def _strike(self, fault: Fault, door: Door) -> None:
        self.met.add((fault.kind, door))
        match fault.kind:
            case Kind.KILLED:
                raise Killed
            case Kind.DIES:
                self._away[door] = fault.away
                raise UnreachableError(f"{door} went away")
            case Kind.BUSY:
                raise TransientError(f"{door} is busy")
            case Kind.REFUSES:
                raise PermanentError(f"{door} refuses")
            case Kind.HANGS:
                raise HungError(f"{door} hangs")
            case Kind.HAPPENS:
                self._happens(fault.happens)
            case _:
                pass
