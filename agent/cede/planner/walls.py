"""The wall around each subject of a plan: a fault met in what a stranger says of it is that subject's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cede.errors import CedeError, unexpected
from cede.model.plan import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def walled(subject: str, ask: Callable[[], _T]) -> _T | Refused:
    """Return what `ask` answers; if it raises whatever it may, a refusal about `subject`, with the error's name."""
    try:
        return ask()
    except CedeError as error:
        failed = error
    except Exception as fault:  # noqa: BLE001 - whatever one subject makes of cede, the others are planned
        failed = unexpected(fault, f"planning {subject}")
    return Refused(
        subject=subject,
        rule=failed.name,
        kind=failed.kind,
        reason=failed.message,
        remedy=failed.remedy or "correct what the reason names, then plan again",
    )
