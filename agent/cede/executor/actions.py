"""How each action is done, and how its effect is read back: a call that returned proves nothing.

Every action examines the host before it acts, so an interrupted action can be repeated; every outside call has a time
limit.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import singledispatchmethod
from typing import TYPE_CHECKING

from cede.domain_xml.edits import EDITS, edited
from cede.errors import GuestSilentError, PermanentError, UnsafeError, WorldMovedError
from cede.executor.host_now import given_now, running_now
from cede.executor.put_back import PutBackByXl
from cede.executor.restart import restart
from cede.executor.return_to_dom0 import DeviceReturn
from cede.executor.virtual_functions import make_functions, set_up_function
from cede.model.actions import (
    AddToConfig,
    Adopt,
    BindToPciback,
    ConfigureVirtualFunction,
    DontLoadAtBoot,
    ForceDetach,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    PutBack,
    RemoveFromConfig,
    RestartDomain,
    ReturnToDom0,
    SetVirtualFunctions,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.model.domain import GuestKind
from cede.model.inventory import CONNECTED
from cede.model.pci import PCIBACK, OriginalState
from cede.model.pciback_options import names_pciback
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cede.adapters.ports import Adapters
    from cede.domain_xml.edits import Edit
    from cede.model.actions import Action
    from cede.model.domain import Domain
    from cede.model.inventory import BackendDevice
    from cede.model.pci import Address


_LET_GO_SECONDS = 30.0
_CONNECT_SECONDS = 60.0  # a driver's probe in a slow guest included
_GIVEN_UP_SECONDS, _LOOKS = 3.0, 10


class ActionRunner:
    """Does actions through the adapters; each has an effect that was read back, or raises one of cede's errors."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters

    @singledispatchmethod
    def do(self, action: Action) -> None:
        """Do one action and check its effect."""
        raise TypeError(f"no action for {action!r}")

    @do.register
    def _load(self, _: LoadPciback) -> None:
        self._adapters.timeouts.call("modprobe", self._adapters.kernel.load_pciback)
        if not self._adapters.sysfs.pciback_loaded:
            raise PermanentError(
                "xen-pciback was loaded, but has no driver directory in sysfs",
                name="pciback-not-loaded",
            )

    @do.register
    def _load_at_boot(self, _: LoadAtBoot) -> None:
        self._adapters.modules.load_at_boot()
        if not self._adapters.modules.loaded_at_boot():
            raise PermanentError(
                "cede wrote the file that loads xen-pciback at boot, but the file does not name the module",
                name="not-loaded-at-boot",
            )

    @do.register
    def _dont_load_at_boot(self, _: DontLoadAtBoot) -> None:
        self._adapters.modules.dont_load_at_boot()

    @do.register
    def _bind_to_pciback(self, action: BindToPciback) -> None:
        self._adapters.timeouts.call(
            f"unbinding {action.address}",
            lambda: self._adapters.libvirt.bind_to_pciback(action.address),
        )
        bound = self._adapters.sysfs.driver(action.address)
        if bound != PCIBACK:
            raise PermanentError(
                f"{action.address} was unbound for pciback, but is bound to {bound or 'no driver'}",
                name="not-bound-to-pciback",
                remedy="see the end of dom0's kernel log (dmesg)",
            )

    @do.register
    def _plug(self, action: HotPlug) -> None:
        address, name = action.address, action.domain
        domain = running_now(self._adapters, name)
        if domain is None or domain.live_hostdev(address) is None:
            # libvirt resets a device before it finds that Xen has given it away
            self._clear_out(name, domain, address)
            self._adapters.timeouts.call(
                f"plugging {address} into {name}",
                lambda: self._adapters.libvirt.plug(
                    name, address, action.alias, permissive=action.permissive
                ),
            )
        if given_now(self._adapters, address) is None:
            raise PermanentError(
                f"libvirt reported {address} attached, but Xen's backend does not list it",
                name="not-in-backend",
            )

    @do.register(AddToConfig)
    @do.register(Adopt)
    @do.register(RemoveFromConfig)
    @do.register(SwitchOn)
    @do.register(SwitchOff)
    def _edit(self, action: Edit) -> None:
        self._adapters.timeouts.call(
            f"editing the XML of {action.domain}",
            lambda: self._adapters.libvirt.redefine(
                action.domain, lambda read: edited(action, read)
            ),
        )

    @do.register
    def _unplug(self, action: Unplug) -> None:
        domain = running_now(self._adapters, action.domain)
        self._refuse_half_gone(action.domain, domain, action.address)
        self._wait_for_guest(action.domain, domain, action.address)
        self._adapters.timeouts.call(
            f"unplugging {action.address} from {action.domain}",
            lambda: self._adapters.libvirt.unplug(action.domain, action.address),
        )
        if not wait_until(
            lambda: self._let_go(action.address), _LET_GO_SECONDS, self._adapters.clock
        ):
            raise _guest_keeps(
                action.domain, f"does not release {action.address}: Xen's backend still lists it"
            )
        self._clear_out(action.domain, running_now(self._adapters, action.domain), action.address)

    @do.register
    def _put_back(self, action: PutBack) -> None:
        PutBackByXl(self._adapters, action).do()

    @do.register
    def _force_detach(self, action: ForceDetach) -> None:
        self._clear_out(action.domain, running_now(self._adapters, action.domain), action.address)

    @do.register
    def _restart(self, action: RestartDomain) -> None:
        restart(self._adapters, action)

    @do.register
    def _return_to_dom0(self, action: ReturnToDom0) -> None:
        DeviceReturn(self._adapters, action).do()

    @do.register
    def _set_virtual_functions(self, action: SetVirtualFunctions) -> None:
        make_functions(self._adapters, action)

    @do.register
    def _configure_virtual_function(self, action: ConfigureVirtualFunction) -> None:
        set_up_function(self._adapters, action)

    def touched(self, action: Action) -> bool:
        """Return whether an action that failed has left an effect that must be undone."""
        match action:
            case BindToPciback():
                sysfs, address = self._adapters.sysfs, action.address
                if sysfs.driver(address) != action.driver or address in sysfs.pciback_slots():
                    return True
                return sysfs.driver_override(address) == PCIBACK
            case HotPlug():
                return bool(
                    given_now(self._adapters, action.address)
                    or self._adapters.hypervisor.in_guest(action.address) is not False
                    or self._listed(action.domain, action.address)
                )
            case SetVirtualFunctions():
                now = self._adapters.sysfs.virtual_functions(action.address)
                return now is None or now.count != action.were
            case _:
                return False

    def _refuse_half_gone(self, name: str, domain: Domain | None, address: Address) -> None:
        """Refuse a live detach that would fail: libvirtd would use freed memory afterwards, and crash."""
        if domain is None or domain.live_hostdev(address) is None:
            return
        given = given_now(self._adapters, address)
        if given is None or given.domid != domain.domid:
            raise PermanentError(
                f"libvirt lists {address} in {name}, but Xen has taken it out",
                name="half-detached",
                remedy=f"shut {name} down and start it, then try again",
            )

    def _clear_out(self, name: str, domain: Domain | None, address: Address) -> None:
        """Remove what an interrupted toolstack has left: first in xenstore, then what only the hypervisor knows."""
        given = given_now(self._adapters, address)
        domid = domain.domid if domain else None
        if domain is not None and domain.live_hostdev(address):
            raise WorldMovedError(
                f"libvirt lists {address} in {name} now",
                name="attached-meanwhile",
                remedy="plan again",
            )
        if given is not None and given.domid == domid:
            given = self._without_what_came_late(name, given)
        if given is not None and domain is not None and given.domid == domid:
            self._wait_for_guest(name, domain, address)
            self._adapters.timeouts.call(
                f"taking {address} out of {name}",
                lambda: self._adapters.xl.detach(given.domid, address),
            )
            if not wait_until(
                lambda: given_now(self._adapters, address) is None,
                _LET_GO_SECONDS,
                self._adapters.clock,
            ):
                raise GuestSilentError(
                    f"{name} does not release {address}: Xen's backend still lists it",
                    name="guest-keeps-device",
                    remedy=f"shut {name} down, then try again",
                )
        if self._adapters.hypervisor.in_guest(address) and domid is not None:
            self._adapters.hypervisor.deassign(domid, address)
            if self._adapters.hypervisor.in_guest(address) is not False:
                raise PermanentError(
                    f"Xen still assigns {address} to a guest, perhaps not {name}",
                    name="assigned-to-guest",
                    remedy="`xl debug-keys Q; xl dmesg` names the guest's id; shut that guest down",
                )

    def _wait_for_guest(self, name: str, domain: Domain | None, address: Address) -> None:
        """Wait until a PV guest has connected to the device, before it is taken away.

        libxl looks at the backend alone, which is connected before the guest is. Meanwhile the guest scans the device
        and its driver starts it: memory that is taken away then makes its kernel stumble (an oops in the driver's
        probe), and its end of the connection never moves again. Raises GuestSilentError if it doesn't connect.
        """
        if domain is None or domain.kind is not GuestKind.PV:
            return
        if not wait_until(
            lambda: self._connected(domain, address), _CONNECT_SECONDS, self._adapters.clock
        ):
            raise GuestSilentError(
                f"{name} has not connected to {address}, and would be harmed if the device were taken away now",
                name="guest-connecting",
                remedy=f"wait until {name} has started, with its driver xen-pcifront, and try again, or shut it down",
            )

    def _connected(self, domain: Domain, address: Address) -> bool:
        """Whether both ends are; what this domain doesn't have needs no waiting for it."""
        given = given_now(self._adapters, address)
        if given is None or given.domid != domain.domid:
            return True
        return (given.backend_state, given.frontend_state) == (CONNECTED, CONNECTED)

    def _let_go(self, address: Address) -> bool:
        given = given_now(self._adapters, address)
        return given is None or given.detach_given_up

    def _without_what_came_late(self, name: str, given: BackendDevice) -> BackendDevice | None:
        """Remove the nodes of a device that the guest let go of after libxl had stopped waiting; else change nothing.

        libxl's own detach, asked again, would leave the backend stuck for good. While libxl still works at it, it
        looks at the nodes ten times a second: what stays as it is for longer is nobody's any more. Raises
        GuestSilentError if the guest hasn't answered, or Xen doesn't say that it has taken the device back.
        """
        address, clock = given.address, self._adapters.clock
        owned = self._adapters.hypervisor.in_guest(address)
        if not given.closing or owned:
            return given
        answered = wait_until(lambda: self._let_go(address), _LET_GO_SECONDS, clock)
        for _ in range(_LOOKS):
            now = given_now(self._adapters, address)
            if now is None:
                return None
            if not answered or owned is None or not now.detach_given_up:
                raise _guest_keeps(
                    name, f"has not let go of {address}, though a detach was asked for"
                )
            clock.sleep(_GIVEN_UP_SECONDS / _LOOKS)
        self._adapters.timeouts.call(
            "xenstore", lambda: self._adapters.xenstore.remove_given_up(given)
        )
        return given_now(self._adapters, address)

    def _listed(self, name: str, address: Address) -> bool:
        domain = running_now(self._adapters, name)
        return domain is not None and domain.live_hostdev(address) is not None


def _guest_keeps(name: str, what: str) -> GuestSilentError:
    return GuestSilentError(
        f"{name} {what}",
        name="guest-keeps-device",
        remedy=f"is {name} paused or hung? Let {name} run or shut it down, then try again",
    )


def read_prestate(adapters: Adapters, action: Action) -> dict[str, object]:
    """Return the state that `action` is about to change, as JSON-like values.

    For a device its driver, override, slot, and whether Xen assigns it to a guest; for a running domain its id, 0 if it
    doesn't run, and the boot in which that is so; for a domain its persistent XML, without secrets; for modules loaded
    at boot cede's file. Unknown values are left out. Raises TransientError,
    UnreachableError or HungError if libvirt does not answer.
    """
    found: dict[str, object] = {}
    if isinstance(action, LoadAtBoot | DontLoadAtBoot):
        found["loaded_at_boot"] = adapters.modules.own_file()
    address = getattr(action, "address", None)
    if address is not None:
        found |= {
            "driver": adapters.sysfs.driver(address),
            "driver_override": adapters.sysfs.driver_override(address),
            "in_pciback_slots": address in adapters.sysfs.pciback_slots(),
        }
        if found["driver"] == PCIBACK:
            found["in_guest"] = adapters.hypervisor.in_guest(address)
    if isinstance(action, HotPlug | Unplug | PutBack | ForceDetach | RestartDomain):
        domain = running_now(adapters, action.domain)
        found |= {"boot": adapters.journal.boot, "domid": domain.domid if domain else 0}
    if isinstance(action, EDITS):
        # the action itself reports what is wrong with the domain; a busy libvirt is retried
        with suppress(PermanentError, UnsafeError, WorldMovedError):
            found["xml"] = adapters.timeouts.call(
                f"reading {action.domain} from libvirt",
                lambda: adapters.libvirt.persistent_xml(action.domain),
            )
    return found


def changes_nothing(action: Action, prestate: Mapping[str, object]) -> bool:
    """Return whether `action` would change nothing in the XML or the file of `prestate`."""
    if isinstance(action, LoadAtBoot):
        return names_pciback(str(prestate.get("loaded_at_boot") or ""))
    kept = prestate.get("xml")
    return isinstance(action, EDITS) and isinstance(kept, str) and edited(action, kept) == kept


def original_state(adapters: Adapters, address: Address) -> OriginalState | None:
    """Return what dom0 has in the device; None if the device is on pciback, which hides that, or has vanished.

    An interrupted bind or return leaves less than dom0 had: then the remembered state is returned.
    """
    driver, identity = adapters.sysfs.driver(address), adapters.sysfs.identity(address)
    if driver == PCIBACK or identity is None:
        return None
    serial, prestate = adapters.sysfs.serial(address), adapters.journal.original_state(address)
    same = prestate is not None and (prestate.identity, prestate.serial) == (identity, serial)
    if (
        prestate is not None
        and same
        and prestate.driver is not None
        and (driver is None or (driver, adapters.journal.boot) == (prestate.driver, prestate.boot))
    ):
        return prestate
    random, names = adapters.sysfs.random_macs(address), adapters.sysfs.interfaces(address)
    original = OriginalState(
        identity=identity,
        serial=serial,
        driver=driver,
        links=tuple(
            replace(link, random=link.name in random) for link in adapters.links.read(names)
        ),
        unrestored=adapters.links.network().unrestored(names) if names else (),
        nodes=tuple(n for n in adapters.sysfs.nodes().get(address, ()) if n.on_controller),
        boot=adapters.journal.boot,
    )
    return original if adapters.sysfs.identity(address) == identity else None
