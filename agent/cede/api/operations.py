"""Operations: requests that may change something, each in a thread of its own, whoever goes away meanwhile.

Each has an id, a stream of events, and a stop after its present action. It is in the journal's file from its begin to
its end; one without an end that doesn't run was interrupted, when the agent ended.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from contextlib import closing
from dataclasses import asdict, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from cede.api.feed import Feed
from cede.api.operation_events import OperationScreen, end_event, newest_lines
from cede.api.outputs import OperationOutput, OperationState
from cede.api.problems import RequestError
from cede.api.reported_error import read_error
from cede.commands.answer import Answer
from cede.commands.catalog import command_of
from cede.commands.exit_status import EXIT_OF, Exit
from cede.commands.perform import run
from cede.commands.session import Session
from cede.errors import CedeError, StopRequestedError, TransientError, unexpected
from cede.model.serialization import plain
from cede.state.operation_store import OperationStore, StoredOperation

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.adapters.runtime import Runtime
    from cede.api.feed import Follower
    from cede.commands.requests import Request
    from cede.state.history import ChangeRecord

_LOG = logging.getLogger(__name__)
_MAX_RUNNING = 16  # at most one has the writer's lock; the others wait for it
_EVENT_BYTES = 4 << 20  # of a running operation
_STORED_BYTES = 1 << 20  # of one that has ended
_HISTORY = 200


class _Running:
    def __init__(self, stored: StoredOperation, request: Request) -> None:
        self.stored = stored
        self.request = request
        self.feed = Feed(_EVENT_BYTES)
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None


class Operations:
    """`changed` is called, in any thread, when an operation has begun or ended."""

    def __init__(
        self, runtime: Runtime, changed: Callable[[OperationOutput], None] = lambda _: None
    ) -> None:
        self._runtime = runtime
        self._changed = changed
        self._lock = threading.Lock()
        self._known: dict[
            str, _Running
        ] = {}  # that run, or could not be written down when they ended
        self._closed = False

    # -- begin, cancel, end

    def begin(self, request: Request, *, requester: str, as_json: bool) -> OperationOutput:
        """Begin an operation and return it.

        Raises TransientError if too many run or the agent ends, PermanentError if the journal can't be written: nothing
        is begun then.
        """
        stored = StoredOperation(
            id=secrets.token_hex(8),
            command=command_of(request).name,
            request=json.dumps(asdict(request)),
            requester=requester,
            as_json=as_json,
            started="",
        )
        operation = _Running(stored, request)
        self._enter(operation)
        try:
            with closing(self._store()) as store:
                operation.stored = replace(stored, started=store.time)
                store.begin(operation.stored)
            operation.thread = threading.Thread(
                target=self._perform, args=(operation,), name=f"operation-{stored.id}", daemon=True
            )
            self._announce(operation.stored)
            operation.thread.start()
        except RuntimeError as error:  # the kernel has no thread left
            no_thread = _too_many()
            self._end(operation, Answer(exit=Exit.TRY_LATER, error=no_thread))
            raise no_thread from error
        except BaseException:
            self._leave(operation)
            raise
        return _output(operation.stored, running=True)

    def _enter(self, operation: _Running) -> None:
        with self._lock:
            if self._closed:
                raise TransientError(
                    "the agent is about to end",
                    name="agent-stopping",
                    remedy="ask again when it is back: `systemctl status cede`",
                )
            ended = [name for name, each in self._known.items() if each.stored.ended]
            if len(self._known) - len(ended) >= _MAX_RUNNING:
                raise _too_many()
            for name in ended[:-_MAX_RUNNING]:
                del self._known[name]
            self._known[operation.stored.id] = operation

    def _leave(self, operation: _Running) -> None:
        with self._lock:
            self._known.pop(operation.stored.id, None)

    def cancel(self, name: str) -> OperationOutput:
        """Have the operation end after its present action; raises RequestError if there is none of that id."""
        with self._lock:
            operation = self._known.get(name)
        if operation is not None:
            operation.stop.set()
        return self.get(name)

    def close(self, seconds: float) -> None:
        """Begin no more, have those that run end after their present actions, and wait for them so long."""
        with self._lock:
            self._closed = True
            running = list(self._known.values())
        for operation in running:
            operation.stop.set()
        deadline = time.monotonic() + seconds
        for operation in running:
            if operation.thread is not None and operation.thread.is_alive():
                operation.thread.join(max(0.0, deadline - time.monotonic()))

    def _perform(self, operation: _Running) -> None:
        session = Session(
            runtime=self._runtime,
            requester=lambda: operation.stored.requester,
            screen=OperationScreen(operation.feed),
            stop=operation.stop,
            as_json=operation.stored.as_json,
        )
        try:
            answer = run(operation.request, session)
        except BaseException as fault:  # noqa: BLE001 - whatever it is, the operation has an end
            error = unexpected(fault, f"the operation {operation.stored.command}")
            answer = Answer(exit=EXIT_OF[error.kind], error=error)
        self._end(operation, answer)

    def _end(self, operation: _Running, answer: Answer) -> None:
        """Write the end down before anybody is told of it."""
        feed, end = operation.feed, end_event(answer)
        lines = feed.lines + json.dumps({"n": feed.last + 1, **end}).encode() + b"\n"
        with closing(self._store()) as store:
            ended = replace(
                operation.stored,
                ended=store.time,
                exit=int(answer.exit),
                digest=answer.digest,
                error="" if answer.error is None else json.dumps(plain(answer.error)),
                events=newest_lines(lines, _STORED_BYTES).decode(),
            )
            operation.stored = ended
            try:
                store.end(ended)
            except (
                CedeError
            ) as error:  # it is told while the agent runs, and interrupted afterwards
                _LOG.warning("%s", error.message)
            else:
                self._leave(operation)
        feed.put(end)
        feed.end()
        self._announce(ended)

    def _announce(self, stored: StoredOperation) -> None:
        try:
            self._changed(_output(stored, running=not stored.ended))
        except Exception as fault:  # noqa: BLE001 - who is told of an operation can't harm it
            unexpected(fault, "announcing an operation")

    # -- read

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of those that run."""
        with self._lock:
            return tuple(name for name, each in self._known.items() if not each.stored.ended)

    def newest(self) -> tuple[OperationOutput, ...]:
        """Return the operations that are known, the newest first."""
        with closing(self._store()) as store:
            return tuple(self._described(stored) for stored in store.newest())

    def get(self, name: str) -> OperationOutput:
        """Return the operation with what the journal has of it; raises RequestError if there is none of that id."""
        stored = self._stored(name)
        return replace(self._described(stored), changes=self._changes(stored))

    def events(self, name: str, after: int) -> Follower:
        """Return the stream of its events after number `after`; raises RequestError if there is none such."""
        with self._lock:
            operation = self._known.get(name)
        if operation is not None:
            return operation.feed.follow(after)
        stored = self._stored(name)
        feed = Feed(_EVENT_BYTES)
        if stored.ended:
            feed.restore(stored.events.encode())
        else:  # what it printed is lost; whoever followed it learns that it ended
            feed = Feed(_EVENT_BYTES, first=after + 1)
            feed.put(end_event(Answer(exit=Exit.TRY_LATER, error=_interrupted())))
        feed.end()
        return feed.follow(after)

    def text(self, name: str) -> tuple[str, bool]:
        """Return what it printed on its standard output, and whether that is JSON.

        Raises RequestError if it has not ended, or there is none of that id.
        """
        stored = self._stored(name)
        if not stored.ended:
            raise RequestError(
                "the operation has not ended",
                name="not-ended",
                status=HTTPStatus.CONFLICT,
                remedy="follow its events to their end",
            )
        events = [json.loads(line) for line in stored.events.splitlines()]
        printed = "".join(event["text"] for event in events if event["kind"] == "out")
        return printed, stored.as_json

    def _stored(self, name: str) -> StoredOperation:
        with self._lock:
            operation = self._known.get(name)
        if operation is not None:
            return operation.stored
        with closing(self._store()) as store:
            stored = store.get(name)
        if stored is None:
            raise RequestError(
                "there is no operation of this id, or not any more",
                name="no-such-operation",
                status=HTTPStatus.NOT_FOUND,
            )
        return stored

    def _described(self, stored: StoredOperation) -> OperationOutput:
        with self._lock:
            operation = self._known.get(stored.id)
        return _output(
            stored if operation is None else operation.stored,
            running=operation is not None and not operation.stored.ended,
        )

    def _changes(self, stored: StoredOperation) -> tuple[ChangeRecord, ...]:
        """Return the changes that were begun for its requester in its time; the daemon's own are not among them."""
        stored = self._as_written(stored)
        with closing(self._runtime.journal()) as journal:
            records = journal.history(most=_HISTORY)
        return tuple(
            record
            for record in records
            if record.requester == stored.requester
            and not record.command.startswith("cede run")
            and stored.after < record.number
            and (stored.until is None or record.number <= stored.until)
        )

    def _as_written(self, stored: StoredOperation) -> StoredOperation:
        """Return the operation with the numbers of the changes that it had at its begin and its end."""
        with closing(self._store()) as store:
            return store.get(stored.id) or stored

    def _store(self) -> OperationStore:
        return OperationStore(self._runtime.paths.journal, now=self._runtime.clock.now)


def _output(stored: StoredOperation, *, running: bool) -> OperationOutput:
    interrupted = not running and not stored.ended
    state = OperationState.RUNNING if running else OperationState.ENDED
    error: CedeError | None = _interrupted() if interrupted else None
    if stored.error:
        read = json.loads(stored.error)
        error = read_error(read, message=read["message"])
    return OperationOutput(
        id=stored.id,
        command=stored.command,
        request=json.loads(stored.request),
        requester=stored.requester,
        state=OperationState.INTERRUPTED if interrupted else state,
        started=stored.started,
        ended=stored.ended or None,
        exit=None if stored.exit is None else Exit(stored.exit),
        digest=stored.digest,
        error=error,
    )


def _interrupted() -> CedeError:
    return StopRequestedError(
        "the agent ended before this operation did",
        name="operation-interrupted",
        remedy="the next pass finishes or undoes what is left of it; `cede history` shows its actions",
    )


def _too_many() -> TransientError:
    return TransientError(
        f"{_MAX_RUNNING} operations run or wait already",
        name="too-many-operations",
        remedy="wait until one of them has ended: GET /v1/operations",
    )
