"""What the commands print with --json, each one value; schemas/*.schema.json are generated from their types.

What is printed of devices and of a proposed policy is in services/describe_devices.py and importing/imported_policy.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from cede.commands.exit_status import Exit
from cede.doctor.finding import Finding
from cede.errors import CedeError, Diagnostic
from cede.model.conditions import Condition
from cede.model.journal_state import Pause
from cede.model.plan import Plan
from cede.services.pass_report import ChangeOutcome, CheckedAssignment
from cede.state.history import ChangeRecord
from cede.verifier.verify import Explained


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOutput:
    """What a command prints with --json that ends in an error, in place of its own output.

    `diagnostics` are all that is wrong in a file, in the order of the lines, empty for another error.
    """

    exit: Exit
    error: CedeError
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutput:
    """What `cede plan --json` and `cede boot --plan --json` print."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOutput:
    """What the commands print with --json that carry out a plan: apply, attach, detach, release, drain, resume, boot.

    `outcomes` are one for each change of the plan, in its order; `checked` is what was looked at afterwards.
    """

    exit: Exit
    plan: Plan
    outcomes: tuple[ChangeOutcome, ...]
    checked: tuple[CheckedAssignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOutput:
    """What `cede status --json` and `cede verify --json` print.

    `checked` are one for each assignment, in the policy's order; `conditions` are those of the host and of every
    assignment, as last seen if libvirt doesn't answer; `explained` are the checklists of the assignments, in the
    policy's order, empty without --explain; `restarted` are the domains that were shut down and started, empty without
    --restart; `error` is why nothing could be looked at, or with --restart the first guest's failure.
    """

    exit: Exit
    checked: tuple[CheckedAssignment, ...]
    conditions: tuple[Condition, ...]
    explained: tuple[Explained, ...] = ()
    restarted: tuple[str, ...] = ()
    error: CedeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOutput:
    """What `cede doctor --json` prints.

    `exit` is 1 if something makes passthrough fail, else 0; `findings` are the worst first, after --fix as they are
    then; `fix` is what --fix would do; `outcomes` are what --fix did, empty without it.
    """

    exit: Exit
    findings: tuple[Finding, ...]
    fix: Plan
    outcomes: tuple[ChangeOutcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOutput:
    """What `cede history --json` prints; in `history` the newest change is first."""

    history: tuple[ChangeRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOutput:
    """What `cede pause --json` prints; `pauses` are all that is paused or drained now."""

    pauses: tuple[Pause, ...]
