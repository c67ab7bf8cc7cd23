"""dom0's network as the kernel tells it: interfaces with what they lie on, and routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.model.virtual_functions import FunctionSettings

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of dom0 (ip-link(8), ip-address(8)).

    `kind` is the kernel's name for a virtual one (`bridge`, `vlan`, `vxlan`), empty for a card; `master` is what it is
    a port of; `link` is what it lies on, or for a veth its other end; `addresses` are its own IP addresses, without
    prefix length, and `subnets` the networks that they are in; `ends` are both ends of a tunnel, as far as they are
    set; `unrestored` is what it has that isn't brought back when its device returns to dom0, each as a phrase; `up`
    tells that it is switched on, `xdp` that an XDP program runs on it; `functions` is how its driver has set up each of
    its SR-IOV virtual functions, in order.
    """

    name: str
    kind: str = ""
    master: str = ""
    link: str = ""
    addresses: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    unrestored: tuple[str, ...] = ()
    up: bool = False
    xdp: bool = False
    functions: tuple[FunctionSettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """What traffic control hands on from one interface to another (tc-mirred(8)); `copies` if it only mirrors it."""

    source: str
    target: str
    copies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One next hop of a unicast route of any table (ip-route(8)).

    `destination` is a network in CIDR notation, `0.0.0.0/0` or `::/0` for a default route; `via` tells that a gateway
    is asked; `protocol` is who made it (`kernel`, `static`, `dhcp`).
    """

    destination: str
    interface: str
    via: bool = False
    protocol: str = ""

    @property
    def default(self) -> bool:
        """Whether it leads to everywhere."""
        return self.destination in {"0.0.0.0/0", "::/0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All interfaces and routes of dom0's own network namespace, in the kernel's order."""

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()

    def functions(self, names: Collection[str]) -> tuple[FunctionSettings, ...]:
        """Return how the virtual functions of the first of these interfaces that tells of any are set up."""
        known = (one.functions for one in self.interfaces if one.name in names and one.functions)
        return next(known, ())

    def any_off(self, names: Collection[str]) -> bool:
        """Tell whether one of these interfaces is known to be switched off."""
        return any(one.name in names and not one.up for one in self.interfaces)

    def unrestored(self, names: Collection[str]) -> tuple[str, ...]:
        """Return what these interfaces have that isn't brought back, each phrase with the name of its interface."""
        return tuple(
            f"{phrase} ({interface.name})"
            for interface in self.interfaces
            if interface.name in names
            for phrase in interface.unrestored
        )
