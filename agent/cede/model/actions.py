"""The actions that change a host, each with the sentence that says what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cede.model.domain import DomainName, Feature
from cede.model.pci import Address, Node
from cede.model.virtual_functions import FunctionSettings
from cede.util.json_keywords import Keywords

Alias = Annotated[
    str,
    Keywords(
        name="alias",
        description="the alias by which cede knows its own hostdev",
        pattern="^ua-cede-[A-Za-z0-9_-]+$",
    ),
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

    `driver` is the one that it is taken from; `unrestored` is what its interfaces have and won't have again when it
    returns to dom0; `goes_along` are the disks and USB devices on a controller, which dom0 loses until then.
    """

    address: Address
    driver: str | None
    unrestored: tuple[str, ...] = ()
    goes_along: tuple[Node, ...] = ()

    def __str__(self) -> str:
        origin = f"from {self.driver} " if self.driver else ""
        lost = ", which a return won't bring back: " + "; ".join(self.unrestored)
        along = ", and with it " + "; ".join(map(str, self.goes_along))
        return (
            f"bind {self.address} {origin}to pciback{along if self.goes_along else ''}"
            f"{lost if self.unrestored else ''}"
        )


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
    """Switch on Xen `features` in the domain's persistent XML; they count from its next start.

    `were_off` are those of them that it switched off in so many words, which a rollback says again.
    """

    domain: DomainName
    features: Annotated[tuple[Feature, ...], Keywords(min_items=1)]
    were_off: tuple[Feature, ...] = ()

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
class PutBack:
    """Have Xen give the running domain again what another tool had it take out, behind libvirt, which still lists it.

    Then libvirt can take it out without a restart of the domain. With `permissive` the guest may write all of the
    configuration space.
    """

    address: Address
    domain: DomainName
    permissive: bool = False

    def __str__(self) -> str:
        permissive = ", permissive" if self.permissive else ""
        return f"put {self.address} back into the running {self.domain}, where libvirt still lists it{permissive}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceDetach:
    """Take out of a running domain what an attach or a detach that libvirt never finished has left there.

    libvirt doesn't list it: Xen gave it away and that wasn't noted, or the guest let go of it too late.
    """

    address: Address
    domain: DomainName

    def __str__(self) -> str:
        return f"take {self.address}, left from an interrupted attach or detach, out of the running {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFromConfig:
    """Take the hostdev out of the domain's persistent XML."""

    address: Address
    domain: DomainName

    def __str__(self) -> str:
        return f"remove {self.address} from the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOff:
    """Switch Xen `features` off again in the domain's persistent XML: the way back from SwitchOn.

    Those that `were_off` in so many words are so again; of the others nothing is said.
    """

    domain: DomainName
    features: Annotated[tuple[Feature, ...], Keywords(min_items=1)]
    were_off: tuple[Feature, ...] = ()

    def __str__(self) -> str:
        return f"switch off {' and '.join(self.features)} in the persistent XML of {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToDom0:
    """Lift the quarantine, drop the pciback slot, bind the dom0 driver again, and check that the device works.

    `driver` is the one that dom0 had it with before, None if that isn't known: then any will do. With `undriven` there
    was none, and the device is only let go. `settings_lost` tells that what its interfaces had is known only from
    before dom0's last boot, and is not restored; `unrestored` is what they had in this boot and don't have again.
    """

    address: Address
    driver: str | None = None
    undriven: bool = False
    settings_lost: bool = False
    unrestored: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.undriven:
            return f"return {self.address} to dom0, which had no driver for it"
        lost = ""
        if self.settings_lost:
            lost = ", without its interfaces' settings from before dom0's last boot"
        elif self.unrestored:
            lost = f", without {'; '.join(self.unrestored)}"
        return f"return {self.address} to {self.driver or 'its dom0 driver'}{lost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVirtualFunctions:
    """Have the driver of a physical function make `count` virtual functions, where there `were` others.

    dom0's drivers take none of them unless they are `probed`; `were_probed` tells whether they took them before.
    """

    address: Address
    count: Annotated[int, Keywords(minimum=0)]
    were: Annotated[int, Keywords(minimum=0)]
    probed: bool = False
    were_probed: bool = True

    def __str__(self) -> str:
        drivers = "let dom0's drivers take" if self.probed else "keep dom0's drivers off"
        if self.count == self.were:
            return f"{drivers} new virtual functions of {self.address}"
        if not self.count:
            return f"take the {self.were} virtual functions of {self.address} away, and {drivers} new ones"
        had = f", which had {self.were}," if self.were else ""
        return f"have {self.address}{had} make {self.count} virtual functions, and {drivers} them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureVirtualFunction:
    """Have the driver of the physical function at `address` keep these `settings` for its virtual function `index`."""

    address: Address
    index: Annotated[int, Keywords(minimum=0)]
    settings: FunctionSettings

    def __str__(self) -> str:
        return f"set up virtual function {self.index} of {self.address}: {self.settings}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartDomain:
    """Shut the domain down and start it from its persistent XML, which lists `addresses`.

    What runs with another id than `domid` was restarted meanwhile, and is left alone. `seconds` is how long the
    shutdown may take; a guest that takes longer keeps running, unless `force` says to end it. `last_seconds` is how
    long it took the last time, None if there was none.
    """

    domain: DomainName
    domid: int
    addresses: tuple[Address, ...]
    seconds: int
    force: bool = False
    last_seconds: float | None = None

    def __str__(self) -> str:
        late = "force it off after that" if self.force else "leave it running if it takes longer"
        shut = f"shut {self.domain} down within {self.seconds} s ({late})"
        last = (
            ""
            if self.last_seconds is None
            else f", which began after {self.last_seconds:.0f} s the last time"
        )
        return f"{shut} and start it; the guest is away until it has booted{last}"


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
    | PutBack
    | ForceDetach
    | RemoveFromConfig
    | SwitchOff
    | ReturnToDom0
    | SetVirtualFunctions
    | ConfigureVirtualFunction
    | RestartDomain
)
