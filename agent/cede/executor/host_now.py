"""The host's own word at this moment: which guest Xen gives a device to, and which domain runs for libvirt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address


def given_now(adapters: Adapters, address: Address) -> BackendDevice | None:
    """Return what Xen's backend lists at `address`, or None. Raises UnreachableError or HungError."""
    served = adapters.timeouts.call("xenstore", adapters.xenstore.backend)
    return next((b for b in served if b.address == address), None)


def running_now(adapters: Adapters, name: str) -> Domain | None:
    """Return the running domain, or None if it doesn't run. Raises TransientError, UnreachableError or HungError."""
    return adapters.timeouts.call(
        f"reading {name} from libvirt", lambda: adapters.libvirt.running(name)
    )
