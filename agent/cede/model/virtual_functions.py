"""SR-IOV: what a physical function can split off, how its virtual functions are set up, and how they are to be.

Sources: Single Root I/O Virtualization and Sharing Specification 1.1; Documentation/ABI/testing/sysfs-bus-pci
(sriov_totalvfs, sriov_numvfs, sriov_drivers_autoprobe); ip-link(8), `vf`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Self

from cede.util.json_keywords import Keywords

_LOCAL, _MULTICAST = 0x02, 0x01  # IEEE 802, the two lowest bits of the first byte
_BYTES = 6
NO_MAC = "00:00:00:00:00:00"


class LinkState(StrEnum):
    """What a virtual function sees of the wire: as it is (`auto`), always there, or never there."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSettings:
    """What the driver of a physical function keeps for one virtual function; None where nothing is said of it.

    `mac` is the administrator's, which the guest can't change unless it is trusted; `vlan` is what the card adds and
    takes off, 0 for none; `spoof_check` tells that the card drops what is sent with another MAC; `trust` that the guest
    may change its MAC and listen to everything; `rate` is the most that it may send, in Mbit/s, 0 without a limit;
    `link_state` is what it sees of the wire.
    """

    mac: Annotated[str, Keywords(pattern="^[0-9a-f]{2}(:[0-9a-f]{2})+$")] | None = None
    vlan: Annotated[int, Keywords(minimum=0)] | None = None
    spoof_check: bool | None = None
    trust: bool | None = None
    rate: Annotated[int, Keywords(minimum=0)] | None = None
    link_state: LinkState | None = None

    @property
    def said(self) -> dict[str, object]:
        """What is said, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value is not None}

    def beyond(self, found: FunctionSettings) -> Self:
        """Return what of it is not so in `found`."""
        there = found.said
        return type(self)(**{n: v for n, v in self.said.items() if there.get(n) != v})  # type: ignore[arg-type]

    def __str__(self) -> str:
        words = {
            "mac": f"the MAC {self.mac}",
            "vlan": f"VLAN {self.vlan}" if self.vlan else "no VLAN",
            "spoof_check": f"spoof check {'on' if self.spoof_check else 'off'}",
            "trust": f"trust {'on' if self.trust else 'off'}",
            "rate": f"at most {self.rate} Mbit/s" if self.rate else "no rate limit",
            "link_state": f"link state {self.link_state}",
        }
        return ", ".join(words[name] for name in self.said) or "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFunctions:
    """The virtual functions of a physical one, as they are.

    `total` is how many it can have, `count` how many it has (sriov_totalvfs, sriov_numvfs); `probed` tells whether
    dom0's drivers take new ones (sriov_drivers_autoprobe). `up` tells whether the interface is switched on, without
    which a guest's driver isn't told its MAC and makes one up. `settings` has those of each, in order; empty where the
    driver tells of none, as that of no network card does.
    """

    total: Annotated[int, Keywords(minimum=0)]
    count: Annotated[int, Keywords(minimum=0)]
    probed: bool
    up: bool = True
    settings: tuple[FunctionSettings, ...] = ()


def derived_mac(seed: str, physical: str, index: int) -> str:
    """Return a MAC for the virtual function that is the same at each boot, and another one on each host.

    It is locally administered and of one station. `seed` is the host's own, `physical` the physical function's address.
    """
    import hashlib  # which loads OpenSSL, megabytes that nobody else needs

    made = hashlib.sha256(f"{seed} {physical} {index}".encode()).digest()[:_BYTES]
    return (bytes([made[0] & ~_MULTICAST | _LOCAL]) + made[1:]).hex(":")


def counted_up(base: str, index: int) -> str | None:
    """Return the MAC that comes `index` after `base`; None if the last three bytes, a vendor's to number, run over."""
    vendor, number = base[:8], int(base[9:].replace(":", ""), 16) + index
    return None if number >= 1 << 24 else f"{vendor}:{number.to_bytes(3, 'big').hex(':')}"


def is_station(mac: str) -> bool:
    """Return whether an interface can have the MAC: it is no group's, and not all zeros."""
    return mac != NO_MAC and not int(mac[:2], 16) & _MULTICAST
