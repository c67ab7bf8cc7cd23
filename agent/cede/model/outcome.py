"""Outcomes: what the executor did of each change, action by action, and why it stopped where it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cede.errors import CedeError
from cede.model.plan import Action, Change
from cede.util.json_keywords import Keywords


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionOutcome:
    """One action that was tried.

    `seconds` is how long it took; `error` is None if it went well; `is_rollback` tells whether the action undid another
    one; `no_change` whether there was nothing to change, and so nothing to undo.
    """

    action: Action
    seconds: Annotated[float, Keywords(minimum=0)]
    error: CedeError | None = None
    is_rollback: bool = False
    no_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one change: the actions tried, in order, and those that rolled them back.

    `error` is why the change stopped before its end, or None; `rollback_failed` why the rollback stopped, or None.
    """

    change: Change
    tried: tuple[ActionOutcome, ...] = ()
    rolled_back: tuple[ActionOutcome, ...] = ()
    error: CedeError | None = None
    rollback_failed: CedeError | None = None

    def did(self, *kinds: type) -> bool:
        """Return whether the whole change was done, an action of one of these kinds among it."""
        return self.error is None and any(isinstance(one, kinds) for one in self.change.actions)
