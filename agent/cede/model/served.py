"""What dom0 serves to guests out of its own: disks, networks, devices, and libvirt's storage pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What guests use through dom0, by the guest's name, and active storage pools, by the pool's.

    `disks` are block devices (`/dev/...` or `8:1`) and files, `interfaces` those of dom0. `devices` are others, and
    `pools` what pools are made of: each the path of a device's node, or a name of the kernel's: `usb:1-2.3` by its
    port, `usb:1.5` by bus and number, `usb:046d:c52b` by vendor and product, `scsi:3:0:0:0`, `scsi_host:3`, `fc:` with
    a port's WWN, `pci:0000:01:00.0`.
    """

    disks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    interfaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pools: Mapping[str, Sequence[str]] = field(default_factory=dict)
