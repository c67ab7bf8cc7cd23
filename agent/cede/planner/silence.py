"""Guests that can't answer: what needs a guest's kernel is refused before anything of it is begun.

libxl would wait for the guest, give up, and leave the device half gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.domain import Silence
from cede.model.plan import Refused

if TYPE_CHECKING:
    from cede.model.domain import Domain

_STATES = {
    Silence.PAUSED: "is paused",
    Silence.CRASHED: "has crashed",
    Silence.SHUTTING_DOWN: "is shutting down",
    Silence.SAVING: "is being saved",
}


def refuse_silent(domain: Domain, subject: str) -> Refused | None:
    """Refuse what the domain's guest must answer and can't; None if nothing is known to keep it from that."""
    silence = domain.cannot_answer
    if silence is None:
        return None
    remedies = {
        Silence.PAUSED: f"`virsh resume {domain.name}`, then try again",
        Silence.CRASHED: f"`virsh destroy {domain.name}`, then try again",
    }
    return Refused(
        subject=subject,
        rule="guest-cannot-answer",
        kind=FailureKind.TRY_LATER,
        reason=f"{domain.name} {_STATES[silence]}, so its guest can't answer",
        remedy=remedies.get(
            silence, f"wait until {domain.name} runs again or is off, then try again"
        ),
    )
