"""Questions: requests that change nothing. Those that come together share one answer, and so one observation.

An answer is given to whoever asked before its observation began, and to nobody who asked later: what is told was true
after it was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from cede.commands.perform import run
from cede.commands.session import Session
from cede.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from cede.adapters.runtime import Runtime
    from cede.commands.answer import Answer
    from cede.commands.requests import Request
    from cede.model.actions import Action
    from cede.model.plan import ActionOutcome, Change

_T = TypeVar("_T")
_AT_ONCE = 4  # different questions of one socket; each takes a core while it plans
_WAIT_SECONDS = 60.0
_MAX_CHARACTERS = 16 << 20


class Printed:
    """What a question printed, in order (`Screen`); each piece with whether it is for the standard error."""

    terminal = False

    def __init__(self) -> None:
        self.pieces: list[tuple[str, bool]] = []
        self._left = _MAX_CHARACTERS

    def write(self, text: str, *, err: bool) -> None:
        """See `Screen`; raises PermanentError if it is too much."""
        self._left -= len(text)
        if self._left < 0:
            raise PermanentError(
                f"the answer has more than {_MAX_CHARACTERS} characters",
                name="answer-too-large",
                remedy="ask for less, or with --no-agent",
            )
        self.pieces.append((text, err))

    def progress(self, change: Change, event: Action | ActionOutcome) -> None:
        """See `Screen`; a question makes none."""

    @property
    def out(self) -> str:
        """What is for the standard output."""
        return "".join(text for text, err in self.pieces if not err)

    @property
    def both(self) -> str:
        """What is for both."""
        return "".join(text for text, _ in self.pieces)


class _Shared(Generic[_T]):
    """One answer in the making."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.value: _T | None = None
        self.error: BaseException | None = None


class SharedAnswers:
    """Answers by what is asked; at most `at_once` are made at the same time."""

    def __init__(self, at_once: int = _AT_ONCE, seconds: float = _WAIT_SECONDS) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, _Shared[object]] = {}
        self._turns: dict[
            Hashable, threading.Lock
        ] = {}  # the same question is answered once at a time
        self.asking = 0  # who waits for an answer now
        self._room = threading.Semaphore(at_once)
        self._seconds = seconds

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what `make` does, or what it does for another one with that `key` who has not begun yet.

        Raises what `make` does, TransientError if there is no room for too long.
        """
        with self._lock:
            shared = self._waiting.get(key)
            mine = shared is None
            self.asking += 1
            if shared is None:
                shared = self._waiting[key] = _Shared()
        try:
            if mine:
                self._make(key, shared, make)
            elif not shared.ended.wait(3 * self._seconds):
                raise _busy()
        finally:
            with self._lock:
                self.asking -= 1
        if shared.error is not None:
            raise shared.error
        return shared.value  # type: ignore[return-value]

    def _make(self, key: Hashable, shared: _Shared[object], make: Callable[[], object]) -> None:
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        has_turn = turn.acquire(timeout=self._seconds)
        has_room = has_turn and self._room.acquire(timeout=self._seconds)
        with self._lock:  # who comes from here on asks anew
            del self._waiting[key]
        try:
            shared.value = make() if has_room else _no_room()
        except BaseException as error:  # noqa: BLE001 - raised where it was asked, by all who asked
            shared.error = error
        finally:
            if has_room:
                self._room.release()
            with self._lock:
                if has_turn:
                    turn.release()
                if key not in self._waiting:
                    self._turns.pop(key, None)
            shared.ended.set()


def _no_room() -> NoReturn:
    raise _busy()


def _busy() -> TransientError:
    return TransientError(
        "too many questions are being answered",
        name="too-many-questions",
        remedy="ask again in a moment",
    )


class Questions:
    """Asks commands that change nothing, on one runtime."""

    def __init__(self, runtime: Runtime, shared: SharedAnswers | None = None) -> None:
        self._runtime = runtime
        self._shared = shared or SharedAnswers()

    def ask(self, request: Request, *, as_json: bool) -> tuple[Answer, Printed]:
        """Return the answer, and what was printed."""
        return self._shared.get((request, as_json), lambda: self._ask(request, as_json=as_json))

    def _ask(self, request: Request, *, as_json: bool) -> tuple[Answer, Printed]:
        printed = Printed()
        session = Session(
            runtime=self._runtime, requester=self._runtime.user, screen=printed, as_json=as_json
        )
        return run(request, session), printed
