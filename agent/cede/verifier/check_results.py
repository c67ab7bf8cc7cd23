"""Check results: what was expected of one item, what was found, and when an assignment is verified.

An assignment is verified when none of its results is failed or not verified. Each says whose word it rests on: the
guest's alone, or that of dom0 and Xen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class CheckStatus(StrEnum):
    """How a check ends; INFO decides nothing."""

    PASSED = "passed"
    FAILED = "failed"
    UNVERIFIED = "not verified"
    INFO = "info"


class Witness(StrEnum):
    """Whose word a result rests on."""

    HOST = "host"
    GUEST = "guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check.

    `source` is where it looked; `witness` says whose word it rests on; `expected` is what was expected; `found` is what
    was found.
    """

    source: str
    witness: Witness = Witness.HOST
    expected: str
    found: str
    status: CheckStatus

    def __str__(self) -> str:
        return f"{self.source}: {self.found}" + (
            ""
            if self.status in {CheckStatus.PASSED, CheckStatus.INFO}
            else f" (expected {self.expected})"
        )


def by_guest(*results: CheckResult) -> tuple[CheckResult, ...]:
    """Return the results as resting on the guest's word."""
    return tuple(replace(result, witness=Witness.GUEST) for result in results)


def check_result(source: str, expected: object, found: object, *, passed: bool) -> CheckResult:
    """Return a result that passed or failed."""
    return CheckResult(
        source=source,
        expected=str(expected),
        found=str(found),
        status=CheckStatus.PASSED if passed else CheckStatus.FAILED,
    )


def verified(findings: Sequence[CheckResult]) -> bool:
    """Whether at least one result decides, and every result that decides passed."""
    deciding = [f for f in findings if f.status is not CheckStatus.INFO]
    return bool(deciding) and all(f.status is CheckStatus.PASSED for f in deciding)


def refused_result(reason: str) -> CheckResult:
    """Return the result for an assignment that the planner refuses."""
    return CheckResult(
        source="plan", expected="no refusal", found=reason, status=CheckStatus.FAILED
    )


def alternative_result(reason: str) -> CheckResult:
    """Return the result for an assignment that is in sync without the device, which its alternative has."""
    return CheckResult(source="plan", expected=reason, found=reason, status=CheckStatus.PASSED)


def unverified_result(source: str, why: str) -> CheckResult:
    """Return a result that could not be had, and why; such a result never counts as passed."""
    return CheckResult(
        source=source, expected="an answer", found=why, status=CheckStatus.UNVERIFIED
    )


def not_asked_result() -> CheckResult:
    """Return the result for a guest that the policy says not to ask: all other results are dom0's and Xen's."""
    result = info_result(
        "guest", "not verified: the policy says not to ask the guest (verify: {guest: none})"
    )
    return replace(result, witness=Witness.GUEST)


def info_result(source: str, found: str) -> CheckResult:
    """Return a result that the administrator may want to know and that decides nothing."""
    return CheckResult(source=source, expected="", found=found, status=CheckStatus.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentChecks:
    """The results for one subject, and whether they verify it; `paused` if the administrator paused or drained it."""

    subject: str
    findings: tuple[CheckResult, ...]
    paused: bool = False

    @property
    def verified(self) -> bool:
        """Whether the results verify the subject."""
        return verified(self.findings)
