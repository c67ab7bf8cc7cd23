"""A card of the simulated host: what never changes of it, who drives it, who owns it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cede.model.pci import Address, Link, Reset

DOM0, QUARANTINE = 0, 0x7FF2  # DOMID_IO, which Xen keeps what left a guest in


@dataclass(slots=True, kw_only=True)
class Card:
    """One PCI function: what never changes of it, then what is so now.

    `lazy` tells that its driver's module goes when it is taken, and must be loaded for it to come back. `wired` are its
    interfaces as dom0 had them, `fresh` what its driver makes of them. `persons` tells that another tool has had their
    hands on it since dom0 last had it. `in_use` are the guards that speak for it while its own driver has it; `number`
    tells one card from another of the same model, `instance` how often one has come there.
    """

    address: Address
    native: str | None = "e1000e"
    lazy: bool = False
    guarded: bool = False
    wired: tuple[Link, ...] = ()
    fresh: tuple[Link, ...] = ()
    disks: tuple[str, ...] = ()
    serial: str | None = None
    reset: Reset = Reset.PM
    physical_function: Address | None = None

    in_use: set[str] = field(default_factory=set)
    number: int = 0
    instance: int = 0
    long_gone: bool = False
    module_loaded: bool = True
    owner: int = DOM0
    persons: bool = False
    present: bool = field(init=False)
    driver: str | None = field(init=False)
    override: str | None = field(init=False)
    slot: bool = field(init=False)
    links: tuple[Link, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.fresh = tuple(Link(name=one.name, mac=one.mac, mtu=1500) for one in self.wired)
        self.present, self.driver, self.override, self.slot = True, self.native, None, False
        self.links = self.wired

    @property
    def modalias(self) -> str:
        return str(self.address)

    @property
    def uses(self) -> frozenset[str]:
        """The guards that speak for it now: what is used goes away with the driver."""
        dom0s = self.present and self.driver is not None and self.driver == self.native
        return frozenset(self.in_use) if dom0s else frozenset()

    @property
    def resets_with_bus(self) -> bool:
        """Whether only a reset of its bus resets it."""
        return self.reset is Reset.BUS

    @property
    def in_guest(self) -> bool:
        return self.owner not in {DOM0, QUARANTINE}

    @property
    def in_dom0(self) -> bool:
        """Whether dom0 has it, working."""
        was = (self.native, None, False, DOM0)
        return was == (self.driver, self.override, self.slot, self.owner)

    @property
    def at_home(self) -> bool:
        """Whether dom0 has it, as it was."""
        return self.in_dom0 and self.links == self.wired
