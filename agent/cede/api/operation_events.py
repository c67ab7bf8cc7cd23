"""The events of an operation: what its command prints, its actions as they begin and end, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.plan import ActionOutcome
from cede.model.serialization import plain

if TYPE_CHECKING:
    from cede.api.feed import Feed
    from cede.commands.answer import Answer
    from cede.model.actions import Action
    from cede.model.plan import Change


class OperationScreen:
    """What an operation prints becomes its events."""

    terminal = False

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def write(self, text: str, *, err: bool) -> None:
        """See `Screen`."""
        self._feed.put({"kind": "err" if err else "out", "text": text})

    def progress(self, change: Change, event: Action | ActionOutcome) -> None:
        """See `Screen`."""
        ended = event if isinstance(event, ActionOutcome) else None
        self._feed.put(
            {
                "kind": "progress",
                "subject": change.subject,
                "action": str(event if ended is None else ended.action),
                "state": "begun" if ended is None else "ended",
                "seconds": None if ended is None else ended.seconds,
                "error": None if ended is None else plain(ended.error),
            }
        )


def end_event(answer: Answer) -> dict[str, object]:
    """Return the event with which an operation, or a question, ends."""
    return {
        "kind": "end",
        "exit": int(answer.exit),
        "digest": answer.digest,
        "error": plain(answer.error),
    }


def newest_lines(lines: bytes, most: int) -> bytes:
    """Return as many of the last lines as have at most so many bytes."""
    if len(lines) <= most:
        return lines
    return lines[-most:].partition(b"\n")[2]
