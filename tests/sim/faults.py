"""The gate that each call through an adapter passes, and what can go wrong there: at which call, of what kind, how far.

A test either schedules faults by the number of a call, or names a call in `fails` or `instead`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from threading import Event, RLock
from typing import Any, TypeVar

from cede.errors import CedeError, HungError, PermanentError, TransientError, UnreachableError

_T = TypeVar("_T")


class Killed(BaseException):
    """SIGKILL: nothing of cede's catches it, and only what is outside of the process stays."""


class Forbidden(BaseException):
    """What must never be asked of a real host was asked: cede's walls, which catch every Exception, don't hide it."""


class Adapter(StrEnum):
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
    STOPPED = "the administrator asks cede to stop"
    HAPPENS = "on the host"


ALL = 9  # more stages than any action has
_FITS = {
    Kind.KILLED: frozenset(Adapter),
    Kind.DIES: frozenset({Adapter.LIBVIRT, Adapter.XENSTORE}),
    Kind.BUSY: frozenset({Adapter.LIBVIRT}),
    Kind.REFUSES: frozenset(Adapter) - {Adapter.XENSTORE},
    Kind.HANGS: frozenset(Adapter) - {Adapter.USES, Adapter.HYPERVISOR, Adapter.JOURNAL},
    Kind.LIES: frozenset({Adapter.LIBVIRT, Adapter.KERNEL}),
    Kind.STOPPED: frozenset(Adapter),
    Kind.HAPPENS: frozenset(Adapter),
}
# libvirtd goes on without the cede that asked it, and a transaction is all or nothing
_WHOLE = frozenset({Adapter.LIBVIRT, Adapter.JOURNAL})


@dataclass(frozen=True, slots=True)
class Fault:
    """`done` of the action's stages come first. A daemon that dies is away for `away` more calls.

    What `happens` is the name of one of the host's own events, before the call if nothing is `done`, else after it.
    """

    kind: Kind
    done: int = 0
    away: int = 0
    happens: str = ""


class Among(StrEnum):
    """Which calls are counted: all, those that change something, or those that change the host."""

    CALLS = "calls"
    ACTIONS = "deeds"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A fault at the call of that number, counted from 0."""

    fault: Fault
    among: Among
    at: int


@contextmanager
def _unhidden() -> Iterator[None]:
    """The simulated host's own assertions come out of cede."""
    try:
        yield
    except AssertionError as forbidden:
        raise Forbidden(*forbidden.args) from forbidden


@contextmanager
def asserted() -> Iterator[None]:
    """What was forbidden is an AssertionError again, once cede has let go: hypothesis knows no other failure."""
    try:
        yield
    except Forbidden as forbidden:
        raise AssertionError(*forbidden.args) from forbidden


class Gate:
    """Every call through an adapter passes here, and meets there what is scheduled for it.

    `journal` lists the actions in order, each as its verb and what it is about. An error in `fails[verb]` is raised
    once, instead of the action or the answer. `instead[verb]` is called in place of it, with what would have done it
    and with what it is about. `before_action` is called with the verb of each action
    that has something to do, just before it is done.
    """

    def __init__(self, happens: Callable[[str], None]) -> None:
        self._happens = happens
        self._acting = RLock()  # the host does one thing at a time
        self.journal: list[str] = []
        self.fails: dict[str, list[CedeError]] = defaultdict(list)
        self.instead: dict[str, Callable[..., Any]] = {}
        self.before_action: Callable[[str], None] = lambda _verb: None
        self.heal()

    def heal(self) -> None:
        """From now on everything answers."""
        self._away: dict[Adapter, int] = {}
        self.start(())

    def start(self, schedule: Sequence[Scheduled]) -> None:
        """A new process of cede: its calls are counted from 0."""
        self._due = {(one.among, one.at): one.fault for one in schedule}
        self._passed = dict.fromkeys(Among, 0)
        self.stop = Event()
        self.met: set[tuple[Kind, Adapter]] = set()

    def asks(self, adapter: Adapter, verb: str, answer: Callable[..., _T], *about: object) -> _T:
        """A question: it changes nothing."""
        with _unhidden():
            fault = self.enter(adapter, action=False)
            found = self.replaced(verb, answer, *about)
            self.leave(fault, adapter)
        return found

    def does(
        self,
        adapter: Adapter,
        verb: str,
        prepare: Callable[[], Sequence[Callable[[], object]]],
        *about: object,
        honest: bool = True,
    ) -> bool:
        """An action in stages, which `prepare` knows once the call has come through; False if there was nothing to do.

        One that isn't `honest` may say that it was done when it wasn't.
        """

        def act(*_about: object) -> bool:
            with self._acting:
                stages = prepare()
                if stages:
                    self.before_action(verb)
                for stage in stages[: self._reached(fault, adapter, len(stages), honest=honest)]:
                    stage()
            return bool(stages)

        with _unhidden():
            fault = self.enter(adapter, action=True)
            self.journal.append(" ".join((verb, *map(str, about))))
            done = self.replaced(verb, act, *about)
            self.leave(fault, adapter)
        return done

    def replaced(self, verb: str, effect: Callable[..., _T], *about: object) -> _T:
        """What `effect` returns of what it is about, unless a test has put something in its place."""
        if self.fails.get(verb):
            raise self.fails[verb].pop(0)
        if verb in self.instead:
            answered: _T = self.instead[verb](effect, *about)
            return answered
        return effect(*about)

    @staticmethod
    def _reached(fault: Fault | None, adapter: Adapter, all_of_them: int, *, honest: bool) -> int:
        """How many stages come to be done."""
        match fault.kind if fault else None:
            case Kind.KILLED if adapter in _WHOLE:
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

    def enter(self, adapter: Adapter, *, action: bool) -> Fault | None:
        """The call comes to the adapter; returns the fault that it meets later on."""
        fault = self._count(adapter, action=action) if self._due else None
        if self._away.get(adapter):
            self._away[adapter] -= 1
            raise UnreachableError(f"{adapter} is away")
        if fault is None or adapter not in _FITS[fault.kind]:
            return None
        if adapter is Adapter.SYSFS and not action and fault.kind in {Kind.REFUSES, Kind.HANGS}:
            return None  # reading a file of the kernel's is no such risk
        if fault.kind is Kind.STOPPED:
            self.stop.set()
            return None
        if fault.kind is Kind.LIES:
            return fault if action else None
        if (
            fault.done == 0
            or not action
            or (fault.kind, adapter) == (Kind.REFUSES, Adapter.JOURNAL)
        ):
            self._strike(fault, adapter)
            return None
        return fault

    def leave(self, fault: Fault | None, adapter: Adapter) -> None:
        """The call is done as far as the fault lets it."""
        if fault is not None:
            self._strike(fault, adapter)

    def _count(self, adapter: Adapter, *, action: bool) -> Fault | None:
        """Count the call; returns what is due at it, one fault at most."""
        counted = [Among.CALLS]
        if action:
            counted.append(Among.ACTIONS)
            if adapter is not Adapter.JOURNAL:
                counted.append(Among.CHANGES)
        found = None
        for among in counted:
            found = self._due.pop((among, self._passed[among]), None) or found
            self._passed[among] += 1
        return found

    def _strike(self, fault: Fault, adapter: Adapter) -> None:
        self.met.add((fault.kind, adapter))
        match fault.kind:
            case Kind.KILLED:
                raise Killed
            case Kind.DIES:
                self._away[adapter] = fault.away
                raise UnreachableError(f"{adapter} went away")
            case Kind.BUSY:
                raise TransientError(f"{adapter} is busy")
            case Kind.REFUSES:
                raise PermanentError(f"{adapter} refuses")
            case Kind.HANGS:
                raise HungError(f"{adapter} hangs")
            case Kind.HAPPENS:
                self._happens(fault.happens)
            case _:
                pass
