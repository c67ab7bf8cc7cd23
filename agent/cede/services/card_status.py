"""The status of a card: one for its assignment, made of those of its functions. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.conditions import Condition, Status
from cede.services.assess import AssignmentStatus, Severity
from cede.verifier.checklist import Witness

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SEVERITIES = tuple(Severity)
# what needs the administrator most comes last, as in the exit status
_KINDS = (
    None,
    FailureKind.OUT_OF_SYNC,
    FailureKind.TRY_LATER,
    FailureKind.FAILED,
    FailureKind.USAGE,
    FailureKind.UNSAFE,
)
_WITNESSES = (None, Witness.HOST, Witness.DEVICE, Witness.GUEST)
_WORST_FIRST = (Status.FALSE, Status.UNKNOWN, Status.TRUE)


def status_of_card(subject: str, functions: Sequence[AssignmentStatus]) -> AssignmentStatus:
    """Return the status of the assignment `subject` of which these are the functions, at least one.

    It says of all what is so of the worst of them; what is so of several it says once.
    """
    worst = max(functions, key=lambda one: (_KINDS.index(one.kind), _severity(one)))
    others = (one.text for one in functions if one.kind is worst.kind)
    texts = tuple(dict.fromkeys((worst.text, *others)))
    return replace(
        worst,
        subject=subject,
        severity=max((one.severity for one in functions), key=_SEVERITIES.index),
        text="; ".join(text for text in texts if not _goes_on(text, texts)),
        done=any(one.done for one in functions),
        witness=max((one.witness for one in functions), key=_WITNESSES.index),
        attached=all(one.attached for one in functions),
        persistent=all(one.persistent for one in functions),
        paused=all(one.paused for one in functions),
        conditions=tuple(_merged(subject, functions)),
        functions=tuple(functions),
    )


def _goes_on(text: str, texts: Sequence[str]) -> bool:
    """Whether another one says the same and more, as one that was rolled back beside one that came to nothing."""
    return any(other != text and other.startswith(text) for other in texts)


def _severity(status: AssignmentStatus) -> int:
    return _SEVERITIES.index(status.severity)


def _merged(subject: str, functions: Iterable[AssignmentStatus]) -> Iterable[Condition]:
    """For each type the condition that is furthest from being so."""
    of: dict[str, list[Condition]] = {}
    for status in functions:
        for condition in status.conditions:
            of.setdefault(condition.type, []).append(condition)
    for conditions in of.values():
        least = min(conditions, key=lambda one: _WORST_FIRST.index(one.status))
        yield replace(least, subject=subject)
