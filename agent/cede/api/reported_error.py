"""An error of another process, or of one that has ended, as its JSON tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cede.errors import CedeError, FailureKind

if TYPE_CHECKING:
    from collections.abc import Mapping


class AgentError(CedeError):
    """An error that the agent reports; its kind is that of the error there."""

    name = "agent-error"

    def __init__(self, message: str, *, name: str, remedy: str = "", kind: FailureKind) -> None:
        super().__init__(message, name=name, remedy=remedy)
        self.kind = kind


def read_error(read: Mapping[str, Any], *, message: str) -> AgentError:
    """Return the error with these members; raises KeyError, TypeError or ValueError if they are none of an error."""
    return AgentError(
        message, name=read["name"], remedy=read["remedy"], kind=FailureKind(read["kind"])
    )
