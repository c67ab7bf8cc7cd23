"""Domains as libvirt's Xen driver knows them: their hostdevs, features, and cede's ownership metadata."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, Literal

from cede.model.pci import Address
from cede.util.json_keywords import Keywords
from cede.util.text import one_line

OWN_ALIAS = "ua-cede-"
_MAX_VOLUMES = 200
MAX_DOMID = 0x7FEF  # below DOMID_FIRST_RESERVED, xen/include/public/xen.h
Feature = Literal["passthrough", "e820_host"]  # as libvirt calls Xen's features
PASSTHROUGH: Final = "passthrough"
E820_HOST: Final = "e820_host"
FEATURES: tuple[Feature, ...] = (PASSTHROUGH, E820_HOST)

DomainName = Annotated[
    str, Keywords(name="domain_name", description="the name of a Xen guest", min_length=1)
]

KiB = Annotated[int, Keywords(minimum=0)]


def own_alias(name: str, address: Address, *, of_card: bool = False) -> str:
    """Return cede's alias for the device that the policy calls `name`; no two in a domain have the same one.

    One function `of_card` has its address in it, since all functions of a card have one name.
    """
    return f"{OWN_ALIAS}{name}{f'-{address.node_device}' if of_card else ''}"


def name_of_alias(alias: str, address: Address) -> str:
    """Return how the policy calls the device at `address` that has this alias of cede's."""
    return alias.removeprefix(OWN_ALIAS).removesuffix(f"-{address.node_device}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostdev:
    """A `<hostdev type='pci'>` of a domain (https://libvirt.org/formatdomain.html#host-device-assignment).

    `alias` is None where it has none; with `managed`, libvirt gives it back to dom0 at every stop; `write_filtering` is
    false if it is permissive.
    """

    address: Address
    alias: str | None = None
    managed: bool = False
    write_filtering: bool = True

    @property
    def owned(self) -> bool:
        """Whether cede put it there: its user alias says so."""
        return self.alias is not None and self.alias.startswith(OWN_ALIAS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """The ownership metadata of a device that cede added to a domain.

    `name` is the device's name in the policy; `policy` is the source of the policy that assigned it
    (schemas/metadata.rng).
    """

    name: str
    address: Address
    policy: str


class GuestKind(StrEnum):
    """How Xen runs a guest; decides how a device reaches it."""

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"


class Silence(StrEnum):
    """Why a running guest can answer neither a hot-plug nor a detach: each needs its kernel."""

    PAUSED = "paused"
    CRASHED = "crashed"
    SHUTTING_DOWN = "shutting-down"
    SAVING = "saving"


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A guest as libvirt's Xen driver knows it.

    `domid` is Xen's id, None while it is off; `name`, `uuid`, `paused` and `persistent` are as libvirt has them. `live`
    are the hostdevs it runs with; `config` are those of its persistent XML; `ownership` is what cede noted there.
    `passthrough` tells whether it was started so that a hot-plug can work: libxl decides that at creation; `e820_host`
    whether a PV guest sees the host's memory map, without which a BAR can collide with its memory. `features` are the
    Xen features that its persistent XML switches on, which count from its next start, and `features_off` those that it
    switches off in so many words. `memory` is the most it can have, in KiB, 0 if unknown; `current_memory` is what its
    persistent XML starts it with, in KiB, 0 if unknown. `host_disks` are the block devices and files,
    `host_interfaces` the interfaces of dom0 that its disks and NICs live on, `host_devices` are its other devices of
    dom0's (model/served.py says how they are written); `unknown_volumes` are its volumes of libvirt's storage pools
    (`POOL/VOLUME`) of which nobody told on which devices they are. `silence` is why Xen or xenstore says that its guest
    can't answer now, None if neither says so. `unreadable` is why its XML can't be read, empty if
    it can; then the rest is what could be made out of it, and what isn't there may be so all the same.
    """

    name: str
    uuid: str
    kind: GuestKind
    domid: int | None = None
    paused: bool = False
    persistent: bool = True
    passthrough: bool = True
    e820_host: bool = True
    features: tuple[Feature, ...] = FEATURES
    features_off: tuple[Feature, ...] = ()
    memory: KiB = 0
    current_memory: KiB = 0
    live: tuple[Hostdev, ...] = ()
    config: tuple[Hostdev, ...] = ()
    ownership: tuple[Ownership, ...] = ()
    host_disks: tuple[str, ...] = ()
    host_interfaces: tuple[str, ...] = ()
    host_devices: tuple[str, ...] = ()
    unknown_volumes: tuple[str, ...] = ()
    silence: Silence | None = None
    unreadable: str = ""

    @property
    def running(self) -> bool:
        """Whether there is a live domain to plug into."""
        return self.domid is not None

    @property
    def cannot_answer(self) -> Silence | None:
        """Why its guest can't answer now, by Xen's, xenstore's or libvirt's word; None if nothing is known to keep it.

        What isn't running is asked nothing.
        """
        if not self.running:
            return None
        return self.silence or (Silence.PAUSED if self.paused else None)

    @property
    def disks_unknown(self) -> str:
        """Why it can't be told which disks of dom0's it lives on; empty if it can."""
        if self.unreadable:
            return f"its XML can't be read: {self.unreadable}"
        volumes = one_line(", ".join(self.unknown_volumes), _MAX_VOLUMES)
        return f"libvirt doesn't tell where these volumes are: {volumes}" if volumes else ""

    @property
    def populated_on_demand(self) -> bool:
        """Whether it starts with less memory than it may have, which libxl does by populate-on-demand for any but PV.

        Source: tools/libs/light/libxl_create.c, libxl__domain_config_setdefault (`pod_enabled`).
        """
        return self.kind is not GuestKind.PV and 0 < self.current_memory < self.memory

    @cached_property
    def _live(self) -> dict[Address, Hostdev]:
        return {hostdev.address: hostdev for hostdev in reversed(self.live)}

    @cached_property
    def _config(self) -> dict[Address, Hostdev]:
        return {hostdev.address: hostdev for hostdev in reversed(self.config)}

    def live_hostdev(self, address: Address) -> Hostdev | None:
        """Return the live hostdev at `address`, or None."""
        return self._live.get(address)

    def config_hostdev(self, address: Address) -> Hostdev | None:
        """Return the persistent hostdev at `address`, or None."""
        return self._config.get(address)

    def ownership_of(self, address: Address) -> Ownership | None:
        """Return cede's note on the device at `address`, or None; what another tool put there since is theirs."""
        if self.unmanaged(address):
            return None
        return next((m for m in self.ownership if m.address == address), None)

    @cached_property
    def owned(self) -> tuple[Ownership, ...]:
        """cede's notes, and what the alias of a hostdev of cede's still says where its note is lost; by address."""
        found = {
            hostdev.address: Ownership(
                name=name_of_alias(hostdev.alias or "", hostdev.address),
                address=hostdev.address,
                policy="",
            )
            for hostdev in (*self.config, *self.live)
            if hostdev.owned
        }
        found |= {note.address: note for note in self.ownership if not self.unmanaged(note.address)}
        return tuple(found[address] for address in sorted(found))

    def unmanaged(self, address: Address) -> bool:
        """Return whether it has a hostdev at `address` that cede neither put there nor adopted."""
        return address in self._unmanaged

    @cached_property
    def _unmanaged(self) -> frozenset[Address]:
        hostdevs = (*self.live, *self.config)
        return frozenset(h.address for h in hostdevs) - {h.address for h in hostdevs if h.owned}
