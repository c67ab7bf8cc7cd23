"""`cede run`: the daemon in the foreground, as systemd starts it (contrib/systemd/cede.service).

`cede run` has no `--json`: it logs to journald, which has its own output for programs (`journalctl -o json`).
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from socket import socket
from threading import Event
from typing import TYPE_CHECKING

import click

from cede.adapters.linux.systemd_notify import Notify
from cede.adapters.linux.systemd_sockets import listening_sockets
from cede.adapters.linux.writer_lock import one_writer
from cede.adapters.ports import Source
from cede.adapters.runtime import Runtime
from cede.cli.options import policy_option
from cede.cli.session import Caller
from cede.cli.signals import STOPPING, handling
from cede.commands.exit_status import Exit
from cede.commands.session import path_of
from cede.daemon.event_log import EventReporter, event_log
from cede.daemon.host_passes import HostPasses, HostReporter, clock_time
from cede.daemon.loop import RELOAD, Daemon
from cede.daemon.schedule import INTERVAL_SECONDS, Schedule
from cede.daemon.triggers import Listener, Trigger, TriggerQueue
from cede.errors import LockedError, PermanentError, PolicyError
from cede.model.policy import source_text
from cede.policy import policy_files
from cede.policy.policy_files import NO_POLICY, has_policy, host_policy
from cede.policy.policy_watcher import PolicyWatcher
from cede.services.status import failures_recorded
from cede.util.log import NOTICE

if TYPE_CHECKING:
    from cede.model.conditions import Condition
    from cede.model.policy import Policy
    from cede.planner.resolve import Targets

_STARTING_SECONDS = 1.0  # the timer's service holds the lock for a moment to test it


@click.command("run")
@policy_option
@click.option(
    "--interval", metavar="SECONDS", type=click.FloatRange(min=10), default=INTERVAL_SECONDS,
    show_default=True, help="The longest time between two passes, a tenth more or less.",
)  # fmt: skip
@click.pass_obj
def run_command(caller: Caller, policy: str, interval: float) -> int:
    """Keep the host in sync with the policy, for as long as it runs.

    A pass begins when a domain starts or ends, a device comes, goes or is taken out, or the policy's files change; the
    pass does what `cede apply --scheduled` does. SIGHUP reads the policy again and tries at once what was put off.
    SIGTERM ends the daemon after the present action. At the sockets that systemd hands over, it answers requests
    (contrib/docs/agent.md). While a policy file is wrong, the daemon says so and follows the
    last valid policy.
    """
    log, runtime = event_log(), caller.runtime()
    sockets = listening_sockets(os.environ)
    with _only_one(runtime):
        serve(runtime, path_of(policy), interval, log, Notify(os.environ), sockets)
    return Exit.OK


@contextmanager
def _only_one(runtime: Runtime) -> Iterator[None]:
    """Hold the daemon's lock. Raises PermanentError if another `cede run` holds it."""
    with ExitStack() as held:
        try:
            held.enter_context(
                one_writer(
                    f"`cede run` (pid {os.getpid()})",
                    path=runtime.paths.run_lock,
                    clock=runtime.clock,
                    seconds=_STARTING_SECONDS,
                )
            )
        except LockedError as other:
            raise PermanentError(
                f"{other.holder} is running already",
                name="another-agent",
                remedy="leave the host to that one, or stop it first: `systemctl status cede` shows it",
            ) from other
        yield


def serve(
    runtime: Runtime,
    policy_path: Path | None,
    interval: float,
    log: logging.Logger,
    notify: Notify,
    sockets: Sequence[tuple[str, socket]] = (),
) -> None:
    """Run the daemon until a signal ends it, and the agent at `sockets`, which have their units' names.

    Raises PolicyError if the policy is wrong at the start, and nobody can ask the agent.
    """
    host, clock = runtime.paths, runtime.clock
    paths = [policy_path] if policy_path is not None else [host.policy, host.policy_folder]
    with failures_recorded(runtime, policy_path):
        watcher = PolicyWatcher(
            read=policy_reader(policy_path, runtime, optional=bool(sockets)),
            fingerprint=lambda: policy_files.fingerprint(paths),
            clock=clock.monotonic,
            report=lambda news: _report_policy(log, news),
            fallback=NO_POLICY if sockets and policy_path is None else None,
        )
    stop, triggers, event_reporter = Event(), TriggerQueue(), EventReporter(log)
    passes = HostPasses(
        runtime=runtime,
        rejected=lambda: watcher.rejected,
        stop=stop,
        event_reporter=event_reporter,
        alive=notify.alive,
        log=log,
    )
    reporter = HostReporter(
        log=log,
        notify=notify,
        event_reporter=event_reporter,
        passes=passes,
        source=watcher.policy.source,
    )
    daemon = Daemon(
        passes=passes,
        policies=watcher,
        schedule=Schedule(chance=random.random, interval=interval),
        reporter=reporter,
        take=triggers.take,
        sleep=clock.sleep,
        clock=clock.monotonic,
        when=lambda at: clock_time(clock, at),
        stopped=stop.is_set,
        heartbeat=notify.every or interval,
    )
    log.info(
        "follows %s, observes the host at least every %.0f s",
        source_text(watcher.policy.source),
        interval,
    )
    with (
        _signals(stop, triggers, notify),
        ExitStack() as running,
        _listening(runtime.event_sources(runtime, paths), triggers, log),
    ):
        if sockets:
            passes.passed = running.enter_context(_agent(runtime, watcher.policy.source, sockets))
        daemon.run()
        notify.stopping()
        passes.close()
    log.info("stopped")


def policy_reader(path: Path | None, runtime: Runtime, *, optional: bool) -> Callable[[], Policy]:
    """Return what reads the policy; if it is `optional`, a host that never had one yet wants nothing."""
    had = not optional

    def read() -> Policy:
        nonlocal had
        had = had or has_policy(path, runtime)
        return host_policy(path, runtime, prune=True) if had else NO_POLICY

    return read


@contextmanager
def _agent(
    runtime: Runtime, source: str, sockets: Sequence[tuple[str, socket]]
) -> Iterator[Callable[[Targets, Sequence[Condition]], None]]:
    """Serve the agent, which is imported for that alone; yield what tells it of a pass."""
    from cede.api.agent import Agent, serving

    agent = Agent(runtime, source)
    with serving(agent, sockets):
        yield agent.passed


@contextmanager
def _listening(
    sources: Sequence[Source], triggers: TriggerQueue, log: logging.Logger
) -> Iterator[None]:
    listeners = [
        Listener(source, triggers, lambda text: log.log(NOTICE, "%s", text)) for source in sources
    ]
    for listener in listeners:
        listener.start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.close()


def _signals(stop: Event, triggers: TriggerQueue, notify: Notify) -> AbstractContextManager[None]:
    """Handle SIGTERM and SIGINT, which stop the daemon (the second one at once), and SIGHUP, which reloads."""

    def stopped(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        triggers.put(Trigger(source="stop", what=""))

    def reload(_number: int, _frame: object) -> None:
        notify.reloading()
        triggers.put(Trigger(source=RELOAD, what="", urgent=True))

    return handling({**dict.fromkeys(STOPPING, stopped), signal.SIGHUP: reload})


def _report_policy(log: logging.Logger, news: Policy | PolicyError) -> None:
    if isinstance(news, PolicyError):
        log.error("the policy is wrong, so cede follows the last valid one: %s", news.message)
    else:
        log.info("follows the new policy: %d assignments", len(news.assignments))
