"""What the administrator confirmed has a digest: another plan than that one is not carried out."""

from __future__ import annotations

from collections.abc import Sequence

from cede.commands.answer import NOTHING
from cede.errors import WorldMovedError
from cede.model.serialization import dumps


def plan_digest(planned: Sequence[object]) -> str:
    """Return the digest of the changes that are planned: hexadecimal SHA-256 of their JSON, or NOTHING."""
    if not planned:
        return NOTHING
    from hashlib import sha256  # and with it OpenSSL, for a plan that does something

    return sha256(dumps(tuple(planned), indent=None).encode()).hexdigest()


def refuse_other(confirmed: str, planned: Sequence[object]) -> None:
    """Raise WorldMovedError unless the plan `confirmed` by its digest, if one was, is what is `planned` now."""
    if confirmed and confirmed != plan_digest(planned):
        raise WorldMovedError(
            "the host has changed since the plan was shown, so cede did nothing",
            name="plan-changed",
            remedy="the same command shows the plan as it is now",
        )
