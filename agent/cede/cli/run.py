"""`cede run`: the daemon in the foreground, as systemd starts it (contrib/systemd/cede.service).

It has no `--json`: what it says is journald's, which has an output of its own for machines (`journalctl -o json`).
"""

from __future__ import annotations

import getpass
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from cede import policy_file
from cede.cli.log import Chronicle, Log, Priority, reason_of, standard_log
from cede.cli.shared import (
    DEFAULT_FOLDER,
    DEFAULT_POLICY,
    failures_recorded,
    host_policy,
    policy_option,
    record_failure,
)
from cede.cli.signals import STOPPING, handling
from cede.daemon import RELOAD, Daemon
from cede.deadline import within
from cede.doors import Doors, open_doors
from cede.errors import CedeError, Exit, HungError, PermanentError, PolicyError, TransientError
from cede.followed import FollowedPolicy
from cede.host.file_changes import FileChanges
from cede.host.journal import Asked
from cede.host.lock import one_writer
from cede.host.notify import Notify
from cede.host.uevents import Uevents
from cede.host.xenstore_watch import XenstoreWatch
from cede.reconcile import Behalf, Report, one_pass
from cede.schedule import INTERVAL_SECONDS, Schedule
from cede.wakes import Listener, Source, Wake, Wakes

if TYPE_CHECKING:
    from cede.backoff import Waiting
    from cede.daemon import Doubted, NextTries, Review
    from cede.policy import Policy

RUN_LOCK = Path("/run/cede-run.lock")
_STARTING_SECONDS = 1.0  # the timer's service looks at the lock for a moment
_CLOSING_SECONDS = 5.0


@click.command("run")
@policy_option
@click.option(
    "--interval", metavar="SECONDS", type=click.FloatRange(min=10), default=INTERVAL_SECONDS,
    show_default=True, help="How long at most until the host is looked at anew, a tenth more or less.",
)  # fmt: skip
@click.pass_obj
def run_command(uri: str, policy_path: Path | None, interval: float) -> int:
    """Keep the host in step with the policy, for as long as it runs.

    It wakes when a domain starts or ends, a device comes, goes or is taken out, or the policy's files change; then it
    does what `cede apply` does. SIGHUP has it read the policy anew and try at once what it had put off. SIGTERM ends it
    after the step that is being taken. A wrong policy file is told, and the last right one followed.
    """
    log = standard_log()
    with _only_one():
        serve(uri, policy_path, interval, log, Notify(os.environ))
    return Exit.OK


@contextmanager
def _only_one() -> Iterator[None]:
    """Raises PermanentError if another `cede run` is there."""
    with ExitStack() as held:
        try:
            held.enter_context(
                one_writer(
                    f"`cede run` (pid {os.getpid()})", path=RUN_LOCK, seconds=_STARTING_SECONDS
                )
            )
        except TransientError as other:
            raise PermanentError(
                f"{_holder(other)} runs already",
                remedy="`systemctl status cede` tells of it; one is enough",
            ) from other
        yield


def _holder(busy: TransientError) -> str:
    """Who holds the lock that one_writer couldn't have."""
    return busy.message.partition(" is at work")[0]


def serve(uri: str, policy_path: Path | None, interval: float, log: Log, notify: Notify) -> None:
    """Be the daemon until a signal ends it. Raises PolicyError if the policy is wrong from the beginning."""
    paths = [policy_path] if policy_path is not None else [DEFAULT_POLICY, DEFAULT_FOLDER]
    with failures_recorded(policy_path):
        followed = FollowedPolicy(
            read=lambda: host_policy(policy_path),
            fingerprint=lambda: policy_file.fingerprint(paths),
            clock=time.monotonic,
            tell=lambda news: _tell_policy(log, news),
        )
    stop, wakes, chronicle = Event(), Wakes(), Chronicle(log)
    passes = HostPasses(
        uri=uri,
        rejected=lambda: followed.rejected,
        stop=stop,
        chronicle=chronicle,
        alive=notify.alive,
        log=log,
    )
    voice = Voice(
        log=log,
        notify=notify,
        chronicle=chronicle,
        passes=passes,
        source=followed.policy.source,
    )
    daemon = Daemon(
        passes=passes,
        policies=followed,
        schedule=Schedule(chance=random.random, interval=interval),
        voice=voice,
        take=wakes.take,
        sleep=time.sleep,
        clock=time.monotonic,
        when=clock_time,
        stopped=stop.is_set,
        beat=notify.every or interval,
    )
    log(Priority.INFO, f"follows {followed.policy.source}, looks at least every {interval:.0f} s")
    with _signals(stop, wakes, notify), _listening(_sources(uri, paths), wakes, log):
        daemon.run()
        notify.stopping()
        passes.close()
    log(Priority.INFO, "stopped")


def _sources(uri: str, paths: Sequence[Path]) -> tuple[Source, ...]:
    from cede.host.libvirt_events import LibvirtEvents

    changes = FileChanges(paths, lambda: policy_file.fingerprint(paths))
    return (LibvirtEvents(uri), XenstoreWatch(), Uevents(), changes)


@contextmanager
def _listening(sources: Sequence[Source], wakes: Wakes, log: Log) -> Iterator[None]:
    listeners = [
        Listener(source, wakes, lambda text: log(Priority.NOTICE, text)) for source in sources
    ]
    for listener in listeners:
        listener.start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()


def _signals(stop: Event, wakes: Wakes, notify: Notify) -> AbstractContextManager[None]:
    """SIGTERM and SIGINT stop it, the second one at once; SIGHUP reloads. They do as little as can be."""

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        wakes.put(Wake(source="stop", what=""))

    def reload(_number: int, _frame: object) -> None:
        notify.reloading()
        wakes.put(Wake(source=RELOAD, what="", urgent=True))

    return handling({**dict.fromkeys(STOPPING, stopped), signal.SIGHUP: reload})


@dataclass(slots=True, kw_only=True)
class HostPasses:
    """Passes on this host. Its doors stay open from one to the next; after a failure they are opened anew.

    Another cede can work between two passes: each has the one-writer lock for itself, and doesn't wait for it.
    `rejected` tells why the policy's files aren't followed as they are. `made` counts the passes that came to their
    end, `seconds` is how long the last one took.
    """

    uri: str
    rejected: Callable[[], PolicyError | None] = lambda: None
    stop: Event
    chronicle: Chronicle
    alive: Callable[[], None]
    log: Log
    _opened: ExitStack | None = None
    _doors: Doors | None = None
    _warned: set[str] = field(default_factory=set)
    made: int = 0
    seconds: float = 0.0

    def __call__(
        self, policy: Policy, why: str, review: Review, doubted: Doubted, next_tries: NextTries
    ) -> Report:
        """One pass; raises the CedeError that kept it from its end."""
        asked = Asked(command=f"cede run ({why})", who=getpass.getuser())
        behalf = Behalf(
            asked=asked, progress=self._progress, stop=self.stop, alive=self.alive, scheduled=True
        )

        def next_try(report: Report) -> dict[str, str]:
            return {subject: _stamp(at) for subject, at in next_tries(report).items()}

        with self._writing():
            begun = time.monotonic()
            try:
                doors = self._open()
                report = one_pass(
                    doors, policy, behalf, review=review, doubted=doubted,
                    next_try=next_try, rejected=self.rejected(),
                )  # fmt: skip
                doors.journal.close()  # another cede may set a damaged one aside meanwhile
            except CedeError:
                self.close()
                raise
        self.made, self.seconds = self.made + 1, time.monotonic() - begun
        for warning in doors.journal.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.log(Priority.WARNING, warning)
        return report

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(one_writer(f"`cede run` (pid {os.getpid()})"))
            except TransientError as other:
                raise TransientError(f"{_holder(other)} is at work") from other
            yield

    def _progress(self, *event: object) -> None:
        self.alive()
        self.chronicle.step(*event)  # type: ignore[arg-type]

    def _open(self) -> Doors:
        if self._doors is None:
            stack = ExitStack()
            self._doors = within(
                f"connecting to {self.uri}", lambda: stack.enter_context(open_doors(self.uri))
            )
            self._opened = stack
        return self._doors

    def close(self) -> None:
        """Close the doors; behind one that hangs in a thread that is left to itself."""
        opened, self._opened, self._doors = self._opened, None, None
        if opened is not None:
            with suppress(HungError):
                within("closing the doors", opened.close, seconds=_CLOSING_SECONDS)


@dataclass(slots=True, kw_only=True)
class Voice:
    """The daemon's words to the log, to systemd, and to the journal where a pass couldn't leave any.

    `source` is the policy that it follows, as the journal knows it.
    """

    log: Log
    notify: Notify
    chronicle: Chronicle
    passes: HostPasses
    source: str
    _complaint: str = ""

    def observed(self) -> None:
        """Ready; also after a reload, and when libvirt can't be reached yet: it is waited for, not the host's start."""
        self.notify.ready()

    def alive(self) -> None:
        """A sign of life."""
        self.notify.alive()

    def passed(self, report: Report, waiting: Sequence[Waiting]) -> None:
        """What is new, and the state in a line."""
        if self._complaint:
            self._complaint = ""
            self.log(Priority.INFO, "passes are made again")
        state = self.chronicle.report(report, waiting, clock_time)
        count = f"pass {self.passes.made}, {self.passes.seconds:.2f} s"
        now = datetime.now(UTC).astimezone()
        self.notify.status(f"{state}; seen at {now:%H:%M:%S}, {count}")

    def failed(self, error: CedeError, seconds: float) -> None:
        """A failure is told once, until it is another one; the host's conditions have it each time."""
        record_failure(
            self.source, error, self.passes.rejected(), _stamp(time.monotonic() + seconds)
        )
        said = reason_of(error)
        if said != self._complaint:
            self._complaint = said
            if isinstance(error, TransientError):
                self.log(Priority.INFO, f"put off: {said}")
            else:
                self.log(Priority.WARNING, f"no pass could be made: {said}; trying again")
        self.notify.status(f"{error.message}; next try in {seconds:.0f} s")


def clock_time(at: float) -> str:
    """A time of the monotonic clock as the wall clock will have it, `at 14:03:10`."""
    return f"at {_moment(at).astimezone():%H:%M:%S}"


def _moment(at: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=at - time.monotonic())


def _stamp(at: float) -> str:
    """The same as the journal writes it."""
    return _moment(at).isoformat(timespec="seconds")


def _tell_policy(log: Log, news: Policy | PolicyError) -> None:
    if isinstance(news, PolicyError):
        log(
            Priority.ERROR,
            f"the policy is wrong, and the last right one is followed: {news.message}",
        )
    else:
        log(Priority.INFO, f"follows the policy as it is now: {len(news.assignments)} assignments")
