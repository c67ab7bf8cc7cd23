"""What wakes the daemon, and how its sources are listened to: each in a thread, opened again when it is lost.

A wake carries no truth, only a word for the log; what is so is observed. So of each source one waiting wake is enough,
however many events come.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from cede.adapters.ports import Source
from cede.daemon.schedule import Ended, pause
from cede.errors import CedeError, unexpected

_LASTED_SECONDS = 10.0  # a source that was heard so long isn't one that fails again and again


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What triggers a pass, and why; an `urgent` trigger ends the pause after failed passes."""

    source: str
    what: str
    urgent: bool = False

    def __str__(self) -> str:
        return f"{self.source}: {self.what}" if self.what else self.source


class TriggerQueue:
    """The one queue. Putting into it is right in any thread and in a signal handler; it never grows beyond a few."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Trigger] = SimpleQueue()
        self._waiting: set[tuple[str, bool]] = set()

    def put(self, trigger: Trigger) -> None:
        """Trigger a pass; nothing is added while a trigger of the same source waits."""
        key = (trigger.source, trigger.urgent)
        if key not in self._waiting:
            self._waiting.add(key)
            self._queue.put(trigger)

    def take(self, seconds: float) -> tuple[Trigger, ...]:
        """Return all that wait, at once; if none does, what comes first, or nothing after `seconds`."""
        triggers: list[Trigger] = []
        with suppress(Empty):
            triggers.append(self._queue.get(timeout=max(0.0, seconds)))
            while True:
                triggers.append(self._queue.get_nowait())
        self._waiting -= {(trigger.source, trigger.urgent) for trigger in triggers}
        return tuple(triggers)


class Listener:
    """Listens to one source until it is closed; a lost source is opened again, for ever and without spinning."""

    def __init__(
        self,
        source: Source,
        triggers: TriggerQueue,
        report: Callable[[str], None],
        pauses: Callable[[int], float] = lambda times: pause(Ended.UNREACHABLE, times),
    ) -> None:
        self._source = source
        self._triggers = triggers
        self._report = report
        self._pauses = pauses
        self._stop = threading.Event()
        self._stopped, self._stopping = os.pipe()
        self._failures = 0
        self._since = 0.0
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name=f"{source.name}-wakes", daemon=True)

    def start(self) -> None:
        """Begin to listen, in a thread."""
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Stop listening; one that hangs in opening its source is left behind."""
        self._stop.set()
        os.write(self._stopping, b".")
        self._thread.join(seconds)
        if not self._thread.is_alive():
            os.close(self._stopped)
            os.close(self._stopping)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._source.open()
                self._opened()
                self._listen()
            except CedeError as lost:
                self._lost(lost)
            except Exception as fault:  # noqa: BLE001 - a thread that ends would listen no more
                self._lost(unexpected(fault, f"listening to {self._source.name}"))
            finally:
                with suppress(Exception):
                    self._source.close()

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._source.fileno(), select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        while not self._stop.is_set():
            poll.poll()
            if self._stop.is_set():
                return
            for what in self._source.read():
                self._triggers.put(Trigger(source=self._source.name, what=what))

    def _opened(self) -> None:
        """What happened before it listened is seen by a pass now."""
        self._since = time.monotonic()
        was_lost, self._complaint = bool(self._complaint), ""
        if was_lost:
            self._report(f"{self._source.name} sends events again")
        what = "is back" if was_lost else "is listened to"
        self._triggers.put(Trigger(source=self._source.name, what=what, urgent=was_lost))

    def _lost(self, error: CedeError) -> None:
        lasted = bool(self._since) and time.monotonic() - self._since > _LASTED_SECONDS
        self._failures = 1 if lasted else self._failures + 1
        self._since = 0.0
        if self._complaint != error.message:
            self._complaint = error.message
            self._report(f"{self._source.name} sends no events for now: {error.message}")
        self._stop.wait(self._pauses(self._failures))
