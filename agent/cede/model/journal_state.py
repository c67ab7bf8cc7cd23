"""What the journal adds to an observed host: pauses, last-applied state, unfinished changes, held devices.

Times are UTC, ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cede.model.pci import Address, OriginalState


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """What the administrator told cede to leave alone, as they named it (`target`); everything if that is empty.

    `domain` is a UUID, or empty; `device` is a name of the policy or an address, or empty. With `drained` the device is
    dom0's meanwhile. `requester` is who said so; `reason` is why, in their words; `since` is when they said so; `until`
    is when it ends by itself, empty if only the administrator ends it.
    """

    target: str = ""
    domain: str = ""
    device: str = ""
    drained: bool = False
    requester: str = ""
    reason: str = ""
    since: str = ""
    until: str = ""

    @property
    def everything(self) -> bool:
        """Whether it is about the whole host."""
        return not (self.domain or self.device)

    def __str__(self) -> str:
        what = "drained" if self.drained else "paused"
        wide = "" if self.everything else f" as {self.target}"
        until = f" until {self.until}" if self.until else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{what}{wide} by {self.requester or 'unknown'} since {self.since}{until}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastApplied:
    """Where the last pass left a device that the policy assigns.

    `domain` is the domain's UUID; `live` and `config` tell which of its XMLs had it.
    """

    address: Address
    domain: str
    live: bool
    config: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Which domain cede gave the device at an address to last, and which card that was.

    `device` is its name in the policy, `domain` the domain's name. `domid` is the id that the domain had, `instance`
    the kernel's number of the card (`Device.instance`); both are None if they are of another boot, or aren't known.
    """

    address: Address
    device: str
    domain: str
    domid: int | None = None
    instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting:
    """A restart of `domain` that was interrupted in this boot of dom0; it had the id `domid` before."""

    domain: str
    domid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The last restart of `domain`, which took `seconds` from its shutdown to its start."""

    domain: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What dom0 had at an address when cede took the card that was there then."""

    address: Address
    state: OriginalState


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """What the journal adds to what is observed."""

    origins: Mapping[Address, OriginalState]
    unfinished: tuple[Unfinished, ...] = ()
    held: tuple[Held, ...] = ()
    pauses: tuple[Pause, ...] = ()
    last_applied: tuple[LastApplied, ...] = ()
    given: tuple[Given, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    restarting: tuple[Restarting, ...] = ()
    restarted: tuple[Restarted, ...] = ()

    @property
    def each_origin(self) -> tuple[Origin, ...]:
        """The origins as values, sorted by address."""
        return tuple(
            Origin(address=address, state=state) for address, state in sorted(self.origins.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A change that is unfinished by cede's journal: cede was killed during it, or could not undo it.

    `subject` is what it was about; `device` is its name in the policy, empty where no policy named it; `attaching`
    tells whether it was an attach, not a release; `domain` is the one that it was about, empty if that was none;
    `return_to_dom0` tells whether dom0 is to have the device if it comes out of there; `since` is when it started;
    `moved` tells whether a hot-plug or an unplug was begun in this boot of dom0, without which nothing of it is in the
    domain; `domids` are the ids that the domain had then, none if they aren't known.
    """

    subject: str
    device: str = ""
    address: Address
    domain: str = ""
    attaching: bool
    return_to_dom0: bool = True
    since: str = ""
    moved: bool = True
    domids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A broken card, which goes to no guest in this boot of dom0; another one in its place is not meant.

    `reason` is what is wrong, `since` when that was seen. `instance` is the kernel's number of the card
    (`Device.instance`), None if it isn't known. `errors` are the uncorrectable errors that were counted by then
    (`Device.aer_errors`). With `lifted` the administrator knows of all that, and the card may go.
    """

    address: Address
    reason: str
    since: str = ""
    instance: int | None = None
    errors: tuple[str, ...] = ()
    lifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A device that is not touched until the administrator asks for it by name: something hung on it.

    `reason` is what hung; `since` is when it did.
    """

    address: Address
    reason: str
    since: str = ""
