"""How each step is done, and how it is read back: a call that returned is not yet a deed done.

Every deed looks before it acts, so that one which was cut off can be done again; every call into the world has its
deadline.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING

from cede.domain_xml.edits import edited
from cede.errors import GuestSilentError, PermanentError, WorldMovedError
from cede.executor.return_to_dom0 import GivingBack
from cede.model.inventory import CLOSING
from cede.model.pci import PCIBACK
from cede.model.plan import (
    AddToConfig,
    Adopt,
    DontLoadAtBoot,
    Evict,
    GiveBack,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    RemoveFromConfig,
    Seize,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.util.retry import await_truth
from cede.util.timeouts import within

if TYPE_CHECKING:
    from cede.adapters.composition import Doors
    from cede.domain_xml.edits import Edit
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address
    from cede.model.plan import Step

_LET_GO_SECONDS = 30.0


class Deeds:
    """Does steps through the doors; each raises one of cede's errors, or has really happened."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    @singledispatchmethod
    def do(self, step: Step) -> None:
        """Do one step and check that it is so."""
        raise TypeError(f"no deed for {step!r}")

    @do.register
    def _load(self, _: LoadPciback) -> None:
        within("modprobe", self._doors.kernel.load_pciback)
        if not self._doors.sysfs.pciback_loaded:
            raise PermanentError("xen-pciback was loaded, but has no driver directory in sysfs")

    @do.register
    def _load_at_boot(self, _: LoadAtBoot) -> None:
        self._doors.modules.load_at_boot()
        if not self._doors.modules.loaded_at_boot():
            raise PermanentError("xen-pciback was named for the boot, but the file doesn't say so")

    @do.register
    def _dont_load_at_boot(self, _: DontLoadAtBoot) -> None:
        self._doors.modules.dont_load_at_boot()

    @do.register
    def _seize(self, step: Seize) -> None:
        within(f"unbinding {step.address}", lambda: self._doors.libvirt.seize(step.address))
        bound = self._doors.sysfs.driver(step.address)
        if bound != PCIBACK:
            raise PermanentError(
                f"{step.address} was let go for pciback, but it is bound to {bound or 'no driver'}",
                remedy="see the end of dom0's kernel log (dmesg)",
            )

    @do.register
    def _plug(self, step: HotPlug) -> None:
        address, name = step.address, step.domain
        domain = self._running(name)
        if domain is None or domain.live_hostdev(address) is None:
            # libvirt would reset a device that Xen has given away before it finds out
            self._clear_out(name, domain, address)
            within(
                f"plugging {address} into {name}",
                lambda: self._doors.libvirt.plug(
                    name, address, step.alias, permissive=step.permissive
                ),
            )
        if self._given(address) is None:
            raise PermanentError(
                f"libvirt reported {address} attached, but Xen's backend doesn't have it"
            )

    @do.register(AddToConfig)
    @do.register(Adopt)
    @do.register(RemoveFromConfig)
    @do.register(SwitchOn)
    @do.register(SwitchOff)
    def _edit(self, step: Edit) -> None:
        within(
            f"editing the XML of {step.domain}",
            lambda: self._doors.libvirt.redefine(step.domain, lambda read: edited(step, read)),
        )

    @do.register
    def _unplug(self, step: Unplug) -> None:
        self._refuse_half_gone(step.domain, step.address)
        within(
            f"unplugging {step.address} from {step.domain}",
            lambda: self._doors.libvirt.unplug(step.domain, step.address),
        )
        if not await_truth(lambda: self._given(step.address) is None, _LET_GO_SECONDS):
            raise GuestSilentError(
                f"{step.domain} doesn't let go of {step.address}: Xen's backend still has it",
                remedy=f"is {step.domain} paused or hung? Let it run or shut it down, then try again",
            )
        self._clear_out(step.domain, self._running(step.domain), step.address)

    @do.register
    def _evict(self, step: Evict) -> None:
        self._clear_out(step.domain, self._running(step.domain), step.address)

    @do.register
    def _give_back(self, step: GiveBack) -> None:
        GivingBack(self._doors, step).do()

    def refuse_moved(self, step: Step) -> None:
        """Raises WorldMovedError if a domain that was off for the plan now runs with what only its XML is to lose."""
        if isinstance(step, RemoveFromConfig) and self._listed(step.domain, step.address):
            raise WorldMovedError(
                f"{step.domain} has {step.address} live, and didn't have it when the plan was made",
                remedy="plan again",
            )

    def touched(self, step: Step) -> bool:
        """Whether a step that failed has left something behind that is to be undone."""
        match step:
            case Seize():
                sysfs, address = self._doors.sysfs, step.address
                if sysfs.driver(address) != step.driver or address in sysfs.pciback_slots():
                    return True
                return sysfs.driver_override(address) == PCIBACK
            case HotPlug():
                return bool(
                    self._given(step.address)
                    or self._doors.hypervisor.in_guest(step.address)
                    or self._listed(step.domain, step.address)
                )
            case _:
                return False

    def _refuse_half_gone(self, name: str, address: Address) -> None:
        """A live detach that fails leaves libvirtd with memory that it has freed: it crashes, sooner or later."""
        domain = self._running(name)
        if domain is None or domain.live_hostdev(address) is None:
            return
        given = self._given(address)
        if given is None or given.domid != domain.domid:
            raise PermanentError(
                f"libvirt lists {address} in {name}, but Xen has taken it out",
                remedy=f"shut {name} down and start it, then try again",
            )

    def _clear_out(self, name: str, domain: Domain | None, address: Address) -> None:
        """What a toolstack that was cut off has left: first its notes, then what only the hypervisor knows."""
        given = self._given(address)
        domid = domain.domid if domain else None
        if domain is not None and domain.live_hostdev(address):
            raise WorldMovedError(f"libvirt lists {address} in {name} now", remedy="plan again")
        if given is not None and given.domid == domid:
            self._refuse_given_up(name, given)
            within(
                f"taking {address} out of {name}",
                lambda: self._doors.xl.detach(given.domid, address),
            )
            if not await_truth(lambda: self._given(address) is None, _LET_GO_SECONDS):
                raise GuestSilentError(
                    f"{name} doesn't let go of {address}: Xen's backend still has it",
                    remedy=f"shut {name} down, then try again",
                )
        if self._doors.hypervisor.in_guest(address) and domid is not None:
            self._doors.hypervisor.deassign(domid, address)
            if self._doors.hypervisor.in_guest(address):
                raise PermanentError(
                    f"Xen has {address} still assigned to a guest, not {name} perhaps",
                    remedy="`xl debug-keys Q; xl dmesg` names the guest's id; shut that guest down",
                )

    def _refuse_given_up(self, name: str, given: BackendDevice) -> None:
        """libxl has given up on a guest that answered too late: another try of its would leave the backend stuck."""
        if given.state == CLOSING and self._doors.hypervisor.in_guest(given.address) is False:
            raise GuestSilentError(
                f"{name} has let go of {given.address} after libxl had given up waiting; Xen's backend still lists it",
                remedy=f"shut {name} down, then try again",
            )

    def _given(self, address: Address) -> BackendDevice | None:
        served = within("xenstore", self._doors.xenstore.backend)
        return next((b for b in served if b.address == address), None)

    def _running(self, name: str) -> Domain | None:
        return within(f"looking at {name}", lambda: self._doors.libvirt.running(name))

    def _listed(self, name: str, address: Address) -> bool:
        domain = self._running(name)
        return domain is not None and domain.live_hostdev(address) is not None
