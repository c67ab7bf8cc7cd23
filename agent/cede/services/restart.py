"""Restart: shut a guest down as it would itself, start it again, and never force it.

That a device is there again after it is the last proof of all. Nothing of what is assigned changes, so there is nothing
to undo and no entry in the journal; interrupted in between, the guest is off, and `virsh start` starts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import TransientError, UnsafeError, WorldMovedError
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain

SHUTDOWN_SECONDS = 120.0
BOOT_SECONDS = 180.0
_POLL = 0.5


def restart(
    adapters: Adapters,
    domain: Domain,
    *,
    seconds: float = SHUTDOWN_SECONDS,
) -> None:
    """Shut `domain` down cleanly, wait at most about `seconds` until it is off, and start it.

    Raises UnsafeError for one that would be gone then, WorldMovedError if it doesn't run, TransientError if it doesn't
    shut down in time: it keeps running, and may still do what it was asked.
    """
    if not domain.persistent:
        raise UnsafeError(
            f"{domain.name} is transient, and would be gone after a shutdown",
            name="domain-transient",
            remedy="first make the domain persistent: virsh dumpxml, then virsh define",
        )
    if not domain.running:
        raise WorldMovedError(
            f"{domain.name} is not running",
            name="domain-not-running",
            remedy=f"virsh start {domain.name}",
        )
    adapters.timeouts.call(
        f"shutting {domain.name} down", lambda: adapters.libvirt.shut_down(domain.name)
    )

    def off() -> bool:
        return (
            adapters.timeouts.call("asking libvirt", lambda: adapters.libvirt.running(domain.name))
            is None
        )

    if not wait_until(off, seconds, adapters.clock, pause=_POLL):
        raise TransientError(
            f"{domain.name} did not shut down within {seconds:.0f} s; cede does not force a guest",
            name="shutdown-timeout",
            remedy=f"shut {domain.name} down from inside and start it, then `cede verify`",
        )
    adapters.timeouts.call(f"starting {domain.name}", lambda: adapters.libvirt.start(domain.name))
