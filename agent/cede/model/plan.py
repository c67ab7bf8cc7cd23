"""The words of a plan: the actions, and of each subject the decision: change it, or why not.

A plan is a value. It can be printed, compared and thrown away; nothing happens until something executes it. A decision
is exactly one of six kinds; whoever reads one matches on it, and ends with `assert_never`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from cede.errors import FailureKind
from cede.model.domain import DomainName, Feature
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


Alias = Annotated[
    str,
    Keywords(
        name="alias",
        description="the alias by which cede knows its own hostdev",
        pattern="^ua-cede-[A-Za-z0-9_-]+$",
    ),
]


Sentence = Annotated[str, Keywords(min_length=1)]


Reason = Annotated[
    str, Keywords(name="reason", description="why, as a sentence for people", min_length=1)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPciback:
    """Load the kernel module xen-pciback; libvirt tries `modprobe pciback`, which no kernel has."""

    def __str__(self) -> str:
        return "load the kernel module xen-pciback"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAtBoot:
    """Name xen-pciback in cede's file in /etc/modules-load.d, so that it is there after every boot."""

    def __str__(self) -> str:
        return "have the kernel module xen-pciback loaded at every boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class DontLoadAtBoot:
    """Take xen-pciback out of cede's file in /etc/modules-load.d again: the way back from LoadAtBoot."""

    def __str__(self) -> str:
        return "have the kernel module xen-pciback no longer loaded at every boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindToPciback:
    """Take the device from its dom0 driver and bind it to pciback.

    `driver` is the one that it is taken from.
    """

    address: Address
    driver: str | None

    def __str__(self) -> str:
        origin = f"from {self.driver} " if self.driver else ""
        return f"bind {self.address} {origin}to pciback"


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPlug:
    """Give the device to the running domain.

    With `permissive` the guest may write all of the configuration space.
    """

    address: Address
    domain: DomainName
    alias: Alias
    permissive: bool = False

    def __str__(self) -> str:
        permissive = ", permissive" if self.permissive else ""
        return f"hot-plug {self.address} into the running domain {self.domain}{permissive}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToConfig:
    """Write the hostdev into the domain's persistent XML, so that it is there after a restart.

    `policy` is what the ownership metadata names; with `permissive` the guest may write all of the configuration space.
    """

    address: Address
    domain: DomainName
    alias: Alias
    policy: str
    permissive: bool = False

    def __str__(self) -> str:
        permissive = ", permissive" if self.permissive else ""
        return f"add {self.address} to the persistent XML of {self.domain}{permissive}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOn:
    """Switch on Xen `features` in the domain's persistent XML; they count from its next start."""

    domain: DomainName
    features: Annotated[tuple[Feature, ...], Keywords(min_items=1)]

    def __str__(self) -> str:
        return f"switch on {' and '.join(self.features)} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Put cede's mark on a hostdev that another tool put into the persistent XML.

    `policy` is what the ownership metadata names.
    """

    address: Address
    domain: DomainName
    alias: Alias
    policy: str

    def __str__(self) -> str:
        return f"adopt {self.address} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplug:
    """Take the device out of the running domain and wait until Xen's backend has released it."""

    address: Address
    domain: DomainName

    def __str__(self) -> str:
        return f"unplug {self.address} from the running domain {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceDetach:
    """Take out of a running domain what Xen gave it in an attach that libvirt never finished, and so doesn't list."""

    address: Address
    domain: DomainName

    def __str__(self) -> str:
        return f"take {self.address}, left from an interrupted attach, out of the running domain {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFromConfig:
    """Take the hostdev out of the domain's persistent XML."""

    address: Address
    domain: DomainName

    def __str__(self) -> str:
        return f"remove {self.address} from the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOff:
    """Switch Xen `features` off again in the domain's persistent XML: the way back from SwitchOn."""

    domain: DomainName
    features: Annotated[tuple[Feature, ...], Keywords(min_items=1)]

    def __str__(self) -> str:
        return f"switch off {' and '.join(self.features)} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToDom0:
    """Lift the quarantine, drop the pciback slot, bind the dom0 driver again, and check that the device works.

    `driver` is the one that dom0 had it with before, None if that isn't known: then any will do. With `undriven` there
    was none, and the device is only let go.
    """

    address: Address
    driver: str | None = None
    undriven: bool = False

    def __str__(self) -> str:
        if self.undriven:
            return f"return {self.address} to dom0, which had no driver for it"
        return f"return {self.address} to {self.driver or 'its dom0 driver'}"


Action = (
    LoadPciback
    | LoadAtBoot
    | DontLoadAtBoot
    | BindToPciback
    | HotPlug
    | AddToConfig
    | SwitchOn
    | Adopt
    | Unplug
    | ForceDetach
    | RemoveFromConfig
    | SwitchOff
    | ReturnToDom0
)


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
    FIX = "fix"  # of the host or a domain, about no device


_ATTACHING = frozenset({Purpose.ATTACH, Purpose.RESTORE, Purpose.BIND})
_KEEPS_BOUND = frozenset({Purpose.BIND, Purpose.HAND_OVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The `actions` for one subject, in order; a failed one ends the rest of them.

    `device` is its name in the policy, empty where no policy names it. `address` is None for what is about the host or
    a domain itself. `identity` is what the device must still be at each action; None for one that has vanished.
    `action_required` is what the administrator must do after the actions before the assignment is in sync, empty if
    nothing. `reason` says why there is something to do, where that isn't a first attach or the administrator's command.
    """

    subject: Subject
    purpose: Purpose
    device: str = ""
    address: Address | None
    identity: Identity | None
    actions: Annotated[tuple[Action, ...], Keywords(min_items=1)]
    action_required: str = ""
    reason: str = ""

    @property
    def attaching(self) -> bool:
        """Whether it brings a device into a domain, or nearer to one."""
        return self.purpose in _ATTACHING

    @property
    def detaching(self) -> bool:
        """Whether it takes a device out of a domain."""
        return not self.attaching and self.purpose is not Purpose.FIX

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
    NOTHING_LEFT = "nothing-left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Satisfied:
    """Nothing to do, now or later; `reason` says it in a sentence."""

    subject: Subject
    why: Why
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Nothing that cede could do before the administrator has done what is `action_required`."""

    subject: Subject
    action_required: Sentence
    reason: Reason


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
class Plan:
    """The `decisions`, one of each subject, in the order in which they were made."""

    decisions: tuple[Decision, ...] = ()

    @property
    def by_subject(self) -> dict[str, Decision]:
        """Each decision by its subject."""
        return {decision.subject: decision for decision in self.decisions}

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is to be done, in order."""
        return tuple(d for d in self.decisions if isinstance(d, Change))

    @property
    def refusals(self) -> tuple[Refused, ...]:
        """What is refused."""
        return tuple(d for d in self.decisions if isinstance(d, Refused))

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions in the order they are taken."""
        return tuple(action for change in self.changes for action in change.actions)


def filter_plan(planned: Plan, subjects: Collection[str], *, drained: bool = False) -> Plan:
    """Return the part of a plan that is about these subjects; with `drained` also whatever is taken back to dom0."""
    return Plan(
        decisions=tuple(
            decision
            for decision in planned.decisions
            if decision.subject in subjects
            or (drained and isinstance(decision, Change) and decision.purpose is Purpose.DRAIN)
        )
    )
