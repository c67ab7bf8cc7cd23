"""A plan: of each subject the decision, to change it or why not; and what came of a change.

A plan is a value. It can be printed, compared and thrown away; nothing happens until something executes it. A decision
is exactly one of six kinds; whoever reads one matches on it, and ends with `assert_never`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from cede.errors import CedeError, FailureKind
from cede.model.actions import Action, BindToPciback, ReturnToDom0
from cede.model.journal_state import Pause
from cede.model.pci import Address, Identity
from cede.util.json_keywords import Keywords

Subject = Annotated[
    str,
    Keywords(
        name="subject",
        description="what it is about: an assignment as `device -> domain`, or `release ADDRESS`",
        min_length=1,
        examples=("nic0 -> pv1", "release 0000:01:00.0"),
    ),
]

RuleName = Annotated[
    str,
    Keywords(
        name="rule_name",
        description="the name of a rule, the same in every version",
        pattern="^[a-z][a-z0-9-]*$",
    ),
]

Sentence = Annotated[str, Keywords(min_length=1)]

Reason = Annotated[
    str, Keywords(name="reason", description="why, as a sentence for people", min_length=1)
]


class Purpose(StrEnum):
    """What a change is for."""

    ATTACH = "attach"  # into a domain, or nearer to one
    RESTORE = "restore"  # the same, since another tool took the device out
    BIND = "bind"  # to pciback, early in dom0's boot
    RELEASE = "release"  # out of every domain and back to dom0
    DETACH = "detach"  # out of every domain, and kept on pciback
    HAND_OVER = "hand-over"  # out of one domain, for another one
    DRAIN = "drain"  # back to dom0 until the administrator resumes
    RECOVER = "recover"  # out of where an interrupted change left it
    RESTART = "restart"  # of a domain, so that it gets what only a start can give
    FIX = "fix"  # of the host or a domain, about no device
    VIRTUAL_FUNCTIONS = "virtual-functions"  # of a device that stays with dom0


_ATTACHING = frozenset({Purpose.ATTACH, Purpose.RESTORE, Purpose.BIND})
_NOT_MOVING = frozenset({Purpose.FIX, Purpose.VIRTUAL_FUNCTIONS, Purpose.RESTART})
_KEEPS_BOUND = frozenset({Purpose.BIND, Purpose.HAND_OVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The `actions` for one subject, in order; a failed one ends the rest of them.

    `device` is its name in the policy, empty where no policy names it. `address` is None for what is about the host or
    a domain itself. `identity` is what the device must still be at each action; None for one that has vanished.
    `instance` is the kernel's number of it, which another card at the same address has not; None if it isn't known.
    `action_required` is what the administrator must do after the actions before the assignment is in sync, empty if
    nothing. `reason` says why there is something to do, where that isn't a first attach or the administrator's command.
    `override` names the guards that the policy overrides for the device. `restart` names the running domain that has to
    be restarted after the actions, empty if none. `group` is the same in changes that are done together: all or none of
    them where devices go in, and all out of the domain before one is returned; empty for a change of its own.
    """

    subject: Subject
    purpose: Purpose
    device: str = ""
    address: Address | None
    identity: Identity | None
    instance: int | None = None
    actions: Annotated[tuple[Action, ...], Keywords(min_items=1)]
    action_required: str = ""
    reason: str = ""
    override: tuple[str, ...] = ()
    restart: str = ""
    group: str = ""

    @property
    def attaching(self) -> bool:
        """Whether it brings a device into a domain, or nearer to one."""
        return self.purpose in _ATTACHING

    @property
    def detaching(self) -> bool:
        """Whether it takes a device out of a domain."""
        return not self.attaching and self.purpose not in _NOT_MOVING

    @property
    def rollback_on_failure(self) -> bool:
        """Whether a failed action has the ones before it taken back; a way out is gone on with instead."""
        return not self.detaching

    @property
    def return_to_dom0(self) -> bool:
        """Whether dom0 is to have the device in the end, as it does if all of it is done, or all of it undone."""
        taken = any(isinstance(action, (BindToPciback, ReturnToDom0)) for action in self.actions)
        return taken or self.needs_follow_up

    @property
    def needs_follow_up(self) -> bool:
        """Whether something is left to do even if all is done: once it goes on, or once a vanished device is back."""
        return self.purpose in _KEEPS_BOUND or (self.address is not None and self.identity is None)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that it is about, in the order of its actions."""
        named = (getattr(action, "domain", "") for action in self.actions)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def domain(self) -> str:
        """The first of them; empty if there is none."""
        return next(iter(self.domains), "")


class Why(StrEnum):
    """Why a subject is satisfied as things are."""

    IN_PLACE = "in-place"
    AT_NEXT_START = "at-next-start"
    ALTERNATIVE_HAS_IT = "alternative-has-it"
    ASSIGNABLE = "assignable"
    DOM0_HAS_IT = "dom0-has-it"
    OTHER_POLICY = "other-policy"
    UNMENTIONED = "unmentioned"
    NOTHING_LEFT = "nothing-left"
    ABSENT = "absent"
    VIRTUAL_FUNCTIONS_SET_UP = "virtual-functions-set-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Satisfied:
    """Nothing to do, now or later; `reason` says it in a sentence."""

    subject: Subject
    why: Why
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Nothing that cede could do before the administrator has done what is `action_required`.

    `restart` names the running domain that has to be restarted, empty if it is something else that is required.
    """

    subject: Subject
    action_required: Sentence
    reason: Reason
    restart: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What cede won't do; `rule` has the same name in every version; `remedy` is what the administrator can do."""

    subject: Subject
    rule: RuleName
    kind: FailureKind
    reason: Reason
    remedy: Sentence

    @property
    def may_pass(self) -> bool:
        """Whether the same question may have another answer soon, with nothing changed by hand."""
        return self.kind is FailureKind.TRY_LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Left alone, since the administrator said so: `pause`; with `pause.drained` the device is dom0's meanwhile."""

    subject: Subject
    pause: Pause
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """Left as it is although another tool took the device out, since the policy wants that only reported."""

    subject: Subject
    reason: Reason


Decision = Change | Satisfied | Deferred | Refused | Paused | Drifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An assignment of several functions, with a decision for each: `functions` are the subjects of those."""

    assignment: Subject
    functions: tuple[Subject, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The `decisions`, one of each subject, in the order they were made in; `cards` says which belong together."""

    decisions: tuple[Decision, ...] = ()
    cards: tuple[Card, ...] = ()

    @cached_property
    def by_subject(self) -> dict[str, Decision]:
        """Each decision by its subject."""
        return {decision.subject: decision for decision in self.decisions}

    @cached_property
    def _assignments(self) -> dict[str, str]:
        return {subject: card.assignment for card in self.cards for subject in card.functions}

    def assignment_of(self, subject: str) -> str:
        """Return the assignment that a decision is about: the subject itself, unless that is a function of a card."""
        return self._assignments.get(subject, subject)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """What is to be done, in order."""
        return tuple(d for d in self.decisions if isinstance(d, Change))

    @cached_property
    def refusals(self) -> tuple[Refused, ...]:
        """What is refused."""
        return tuple(d for d in self.decisions if isinstance(d, Refused))

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions in the order they are taken."""
        return tuple(action for change in self.changes for action in change.actions)


def filter_plan(planned: Plan, subjects: Collection[str], *, drained: bool = False) -> Plan:
    """Return the part of a plan that is about these subjects; with `drained` also whatever is taken back to dom0."""
    decisions = tuple(
        decision
        for decision in planned.decisions
        if decision.subject in subjects
        or (drained and isinstance(decision, Change) and decision.purpose is Purpose.DRAIN)
    )
    left = {decision.subject for decision in decisions}
    return Plan(
        decisions=decisions,
        cards=tuple(card for card in planned.cards if not left.isdisjoint(card.functions)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionOutcome:
    """One action that was tried.

    `seconds` is how long it took; `error` is None if it went well; `is_rollback` tells whether the action undid another
    one; `no_change` whether there was nothing to change, and so nothing to undo; `begun` whether it was written to the
    journal, without which nothing of it was done.
    """

    action: Action
    seconds: Annotated[float, Keywords(minimum=0)]
    error: CedeError | None = None
    is_rollback: bool = False
    no_change: bool = False
    begun: bool = True


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
