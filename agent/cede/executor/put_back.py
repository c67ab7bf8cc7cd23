"""Have Xen give a running domain again what another tool took out of it behind libvirt, which still lists it there.

Seen on Xen 4.20 with libvirt 11.3: after `xl pci-detach` a live detach fails, after `xl pci-attach` it works, and the
device returns to dom0 alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import PermanentError, UnsafeError, WorldMovedError
from cede.executor.host_now import given_now, running_now
from cede.model.pci import PCIBACK

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.actions import PutBack

_STILL_SECONDS, _LOOKS = 3.0, 10


class PutBackByXl:
    """One device that is to be put back by `xl pci-attach`; every state is checked before and after."""

    def __init__(self, adapters: Adapters, action: PutBack) -> None:
        self._adapters = adapters
        self._action = action

    def do(self) -> None:
        """Put it back, unless an earlier try has.

        While a detach of another tool is under way, all looks the same for a moment: it must stay so. Raises
        WorldMovedError if it doesn't, PermanentError or UnsafeError if Xen isn't known to have the device free.
        """
        address, name, clock = self._action.address, self._action.domain, self._adapters.clock
        domid = self._listed()
        for _ in range(_LOOKS):
            given = given_now(self._adapters, address)
            if given is not None:
                break
            clock.sleep(_STILL_SECONDS / _LOOKS)
            if self._listed() != domid:
                raise self._moved()
        else:
            self._refuse_not_free()
            self._adapters.timeouts.call(
                f"putting {address} back into {name}",
                lambda: self._adapters.xl.attach(
                    domid, address, permissive=self._action.permissive
                ),
            )
            given = given_now(self._adapters, address)
        if given is None:
            raise PermanentError(
                f"xl reported {address} attached to {name}, but Xen's backend does not list it",
                name="not-in-backend",
                remedy=f"shut {name} down and start it, then try again",
            )
        if given.domid != domid or self._listed() != domid:
            raise self._moved()

    def _listed(self) -> int:
        """Return the id of the running domain, in which libvirt lists the device. Raises WorldMovedError if not."""
        address, name = self._action.address, self._action.domain
        domain = running_now(self._adapters, name)
        if domain is None or domain.domid is None or domain.live_hostdev(address) is None:
            raise self._moved()
        return domain.domid

    def _refuse_not_free(self) -> None:
        address = self._action.address
        bound = self._adapters.sysfs.driver(address)
        if bound != PCIBACK:
            raise PermanentError(
                f"{address} is bound to {bound or 'no driver'}, not to pciback",
                name="not-bound-to-pciback",
            )
        if self._adapters.hypervisor.in_guest(address) is not False:
            raise UnsafeError(
                f"Xen does not say that {address} is free, so {address} can't be put back into a guest",
                name="owner-unknown",
                remedy=f"shut {self._action.domain} down and start it, then try again",
            )

    def _moved(self) -> WorldMovedError:
        return WorldMovedError(
            f"{self._action.address} and {self._action.domain} are no longer as they were",
            name="changed-meanwhile",
            remedy="plan again",
        )
