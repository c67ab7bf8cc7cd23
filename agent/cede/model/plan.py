"""The words of a plan: actions to take, no-ops with their reason, refusals with their remedy.

A plan is a value. It can be printed, compared and thrown away; nothing happens until something executes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cede.errors import Exit
from cede.model.pci import Address, Identity


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
    """Take the device from its dom0 driver and bind it to pciback."""

    address: Address
    driver: str | None

    def __str__(self) -> str:
        origin = f"from {self.driver} " if self.driver else ""
        return f"bind {self.address} {origin}to pciback"


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPlug:
    """Give the device to the running domain."""

    address: Address
    domain: str
    alias: str
    permissive: bool = False

    def __str__(self) -> str:
        return f"hot-plug {self.address} into the running domain {self.domain}" + (
            ", permissive" if self.permissive else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddToConfig:
    """Write the hostdev into the domain's persistent XML, so that it is there after a restart."""

    address: Address
    domain: str
    alias: str
    policy: str
    permissive: bool = False

    def __str__(self) -> str:
        return f"add {self.address} to the persistent XML of {self.domain}" + (
            ", permissive" if self.permissive else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOn:
    """Switch on Xen features in the domain's persistent XML; they count from its next start."""

    domain: str
    features: tuple[str, ...]

    def __str__(self) -> str:
        return f"switch on {' and '.join(self.features)} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Put cede's mark on a hostdev that another tool put into the persistent XML."""

    address: Address
    domain: str
    alias: str
    policy: str

    def __str__(self) -> str:
        return f"adopt {self.address} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplug:
    """Take the device out of the running domain and wait until Xen's backend has let go."""

    address: Address
    domain: str

    def __str__(self) -> str:
        return f"unplug {self.address} from the running domain {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceDetach:
    """Take out of a running domain what Xen gave it in an attach that libvirt never finished, and so doesn't list."""

    address: Address
    domain: str

    def __str__(self) -> str:
        return f"take {self.address}, left from an attach that was cut off, out of the running domain {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFromConfig:
    """Take the hostdev out of the domain's persistent XML."""

    address: Address
    domain: str

    def __str__(self) -> str:
        return f"remove {self.address} from the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOff:
    """Switch Xen features off again in the domain's persistent XML: the way back from SwitchOn."""

    domain: str
    features: tuple[str, ...]

    def __str__(self) -> str:
        return f"switch off {' and '.join(self.features)} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToDom0:
    """Lift the quarantine, drop the pciback slot, bind the dom0 driver again, and see that it lives.

    `driver` is the one that dom0 had it with before, None if that isn't known: then any will do. With `undriven` there
    was none, and the device is only let go.
    """

    address: Address
    driver: str | None = None
    undriven: bool = False

    def __str__(self) -> str:
        if self.undriven:
            return f"give {self.address} back to dom0, which had no driver for it"
        return f"give {self.address} back to {self.driver or 'its dom0 driver'}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The actions of one subject (an assignment, a release, a fix), in order; a failed one ends the rest of them.

    `address` is None for what is about the host or a domain itself and no device. `identity` is what the device must
    still be at each action; None for one that has vanished. `action_required` is what the administrator must do after
    the actions before the assignment is in sync, empty if nothing. `keep_bound` says that the device waits on pciback
    for another domain, and is dom0's if that doesn't come about. `reason` says why there is something to do, where that
    isn't a first attach or a person's command: with `drifted`, what another tool took away, with `drained`, who wants
    the device in dom0 meanwhile.
    """

    subject: str
    address: Address | None
    identity: Identity | None
    actions: tuple[Action, ...]
    action_required: str = ""
    keep_bound: bool = False
    reason: str = ""
    drifted: bool = False
    drained: bool = False

    @property
    def attaching(self) -> bool:
        """Whether it brings a device into a domain, or nearer to one, rather than out of it."""
        return any(
            isinstance(action, (BindToPciback, HotPlug, AddToConfig, Adopt))
            for action in self.actions
        )

    @property
    def detaching(self) -> bool:
        """Whether it takes a device out, and brings none in."""
        out = any(
            isinstance(action, (Unplug, RemoveFromConfig, ReturnToDom0)) for action in self.actions
        )
        return out and not self.attaching

    @property
    def rollback_on_failure(self) -> bool:
        """Whether a failed action has the ones before it taken back; a way out is gone on with instead."""
        return self.attaching or self.address is None

    @property
    def return_to_dom0(self) -> bool:
        """Whether dom0 is to have the device in the end, as it does if all of it is done, or all of it undone."""
        taken = any(isinstance(action, (BindToPciback, ReturnToDom0)) for action in self.actions)
        return taken or self.needs_follow_up

    @property
    def needs_follow_up(self) -> bool:
        """Whether something is left to do even if all is done: once it goes on, or once a vanished device is back."""
        return self.keep_bound or (self.address is not None and self.identity is None)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that it is about, in the order of its actions."""
        named = (getattr(action, "domain", "") for action in self.actions)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def domain(self) -> str:
        """The first of them; empty if there is none."""
        return next(iter(self.domains), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOp:
    """Nothing to do for the subject, and why.

    `action_required` is what the administrator must do before the assignment is in sync; `settled` says that it is in
    sync without the device being there, since an alternative has it. `paused` says that the administrator told cede to
    leave it alone, `drained` that the device is dom0's meanwhile. `drifted` says that another tool took the device
    away, and that the policy only wants that told.
    """

    subject: str
    reason: str
    action_required: str = ""
    alternative_attached: bool = False
    paused: bool = False
    drained: bool = False
    drifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What cede won't do for the subject, why, what the administrator can do, and the exit status that says so.

    `name` is the rule's own, the same in every version.
    """

    subject: str
    reason: str
    remedy: str
    exit: Exit
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every subject in exactly one of work, no-ops and refusals."""

    changes: tuple[Change, ...] = ()
    noops: tuple[NoOp, ...] = ()
    refusals: tuple[Refusal, ...] = field(default=())

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions in the order they are taken."""
        return tuple(action for change in self.changes for action in change.actions)
