"""A request's session: the runtime, the screen, who requested it, and what stops it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from cede.adapters.runtime import Runtime
from cede.commands.screen import Terminal

if TYPE_CHECKING:
    from cede.model.actions import Action
    from cede.model.plan import ActionOutcome, Change


class Screen(Protocol):
    """Where a request's text goes; several threads may write, one after the other."""

    @property
    def terminal(self) -> bool:
        """Whether a person looks, for whom text is redrawn."""

    def write(self, text: str, *, err: bool) -> None:
        """Take `text`, cleaned, with its line break unless the line goes on; `err` is standard error."""

    def progress(self, change: Change, event: Action | ActionOutcome) -> None:
        """Take the begin or the end of an action, which `write` gets as text unless JSON is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a command works with.

    `requester` tells who asks, as the history has it. `stop` ends the command after the present action; while the host
    may be changed the command is in the context that `acting` gives, so that there is something to stop.
    """

    runtime: Runtime
    requester: Callable[[], str]
    screen: Screen = field(default_factory=Terminal)
    stop: Event = field(default_factory=Event)
    as_json: bool = False
    acting: Callable[[], AbstractContextManager[object]] = nullcontext


def path_of(policy: str) -> Path | None:
    """Return the path of a request's policy, None for the host's own."""
    return Path(policy) if policy else None
