"""Virtual functions as the policy wants them: how many a device has, how each is set up, and when that can't be.

A physical function stays with dom0, and is a subject of its own in the plan. Its virtual functions are given away like
any other device, but not before they are set up: a guest that takes one with a MAC of zeros may choose any. How many
there are is never changed while one of them is in use, since the kernel takes all of them away first.
Source: drivers/pci/pci-sysfs.c (sriov_numvfs_store), drivers/pci/iov.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import ConfigureVirtualFunction, SetVirtualFunctions
from cede.model.pci import Address
from cede.model.plan import Change, Decision, Purpose, Refused, Satisfied, Why
from cede.model.virtual_functions import FunctionSettings, derived_mac
from cede.planner.match import candidates, resolve_device
from cede.planner.paused import left_alone, pause_of
from cede.planner.walls import walled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.actions import Action
    from cede.model.inventory import Inventory
    from cede.model.pci import Device
    from cede.model.policy import DevicePolicy, Policy, WantedFunctions
    from cede.model.virtual_functions import VirtualFunctions

IN_USE, FUNCTIONS_FIRST = "virtual-functions-in-use", "virtual-functions-first"
_NETWORK = "02"  # PCI Code and ID Assignment Specification, base class: network controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Physical:
    """A device of the policy that is to have virtual functions, and what is decided of them.

    `address` is None while it can't be told which device it is.
    """

    address: Address | None
    decision: Decision

    def keeps_back(self, subject: str, device: Device | None) -> Refused | None:
        """Refuse an assignment of one of its functions that isn't there, or isn't set up, yet; `device` is that one."""
        match self.decision:
            case Change(actions=actions) as change if any(
                isinstance(a, SetVirtualFunctions) and a.count != a.were for a in actions
            ):
                return Refused(
                    subject=subject,
                    rule=FUNCTIONS_FIRST,
                    kind=FailureKind.OUT_OF_SYNC,
                    reason=f"its virtual functions are made first ({change.subject})",
                    remedy="`cede apply` goes on with it once they are there",
                )
            case Refused(rule=rule) as refused if device is None or rule != IN_USE:
                return replace(
                    refused, subject=subject, reason=f"{refused.subject}: {refused.reason}"
                )
        return None


def physical_functions(policy: Policy, inventory: Inventory) -> Mapping[str, Physical]:
    """Decide on each device of the policy that is to have virtual functions, by its name."""
    found: dict[str, Physical] = {}
    for described in policy.devices:
        if described.virtual_functions is not None:
            subject = f"{described.name}: virtual functions"
            device = walled(subject, partial(resolve_device, described, inventory, subject))
            if isinstance(device, Refused):
                found[described.name] = Physical(address=None, decision=device)
                continue
            decide = partial(
                _decide, described, described.virtual_functions, device, subject, inventory
            )
            decision = walled(subject, decide)
            found[described.name] = Physical(address=device.address, decision=decision)
    return found


def _decide(
    described: DevicePolicy,
    wanted: WantedFunctions,
    device: Device,
    subject: str,
    inventory: Inventory,
) -> Decision:
    pause = pause_of(inventory, device=described.name, address=device.address)
    if pause is not None:
        return left_alone(subject, pause)
    refused = _refuse(wanted, device, subject, inventory)
    found = device.virtual_functions
    if refused is not None or found is None:
        return refused or _incapable(device, subject)
    count = _counting(wanted, device, found)
    in_use = (
        refuse_functions_in_use(device, subject, inventory)
        if count is not None and count.count != count.were
        else None
    )
    count = None if in_use is not None else count
    settings = tuple(
        _settings(
            wanted, device, found, inventory, anew=count is not None and count.count != count.were
        )
    )
    actions: tuple[Action, ...] = (*([count] if count is not None else []), *settings)
    if actions:
        return Change(
            subject=subject,
            purpose=Purpose.VIRTUAL_FUNCTIONS,
            device=described.name,
            address=device.address,
            identity=device.identity,
            instance=device.instance,
            actions=actions,
            action_required=in_use.remedy if in_use is not None else "",
            reason=_reason(settings, count),
        )
    return in_use or Satisfied(
        subject=subject,
        why=Why.VIRTUAL_FUNCTIONS_SET_UP,
        reason=f"{device.address} has {wanted.count} virtual functions, set up as they are to be"
        if wanted.count
        else f"{device.address} has no virtual functions",
    )


def _reason(
    settings: tuple[ConfigureVirtualFunction, ...], count: SetVirtualFunctions | None
) -> str:
    """Say what was found otherwise, where functions that are there already are set up again."""
    if not settings or (count is not None and count.count != count.were):
        return ""
    return "virtual functions are not set up as they are to be"


def _counting(
    wanted: WantedFunctions, device: Device, found: VirtualFunctions
) -> SetVirtualFunctions | None:
    probed = wanted.count == 0
    if (found.count, found.probed) == (wanted.count, probed):
        return None
    return SetVirtualFunctions(
        address=device.address,
        count=wanted.count,
        were=found.count,
        probed=probed,
        were_probed=found.probed,
    )


def _settings(
    wanted: WantedFunctions,
    device: Device,
    found: VirtualFunctions,
    inventory: Inventory,
    *,
    anew: bool,
) -> Iterator[ConfigureVirtualFunction]:
    """Yield what is to be set up, of all those that come `anew`, else of those that differ from what is wanted."""
    if not _is_network(device):
        return
    there = wanted.count if anew else min(wanted.count, found.count)
    for index in range(there):
        so = FunctionSettings() if anew or index >= len(found.settings) else found.settings[index]
        mac = wanted.macs[index] if wanted.macs else None
        mac = mac or derived_mac(inventory.seed, str(device.address), index)
        missing = replace(wanted.settings, mac=mac).beyond(so)
        if missing.said:
            yield ConfigureVirtualFunction(address=device.address, index=index, settings=missing)


def _is_network(device: Device) -> bool:
    return device.identity.class_code.startswith(_NETWORK)


def _incapable(device: Device, subject: str) -> Refused:
    return Refused(
        subject=subject,
        rule="no-virtual-functions",
        kind=FailureKind.USAGE,
        reason=f"{device.address} can't have virtual functions: it has no SR-IOV capability, or the kernel no support",
        remedy="take `virtual_functions` out of the policy, or see whether the firmware has SR-IOV switched off",
    )


def _refuse(
    wanted: WantedFunctions, device: Device, subject: str, inventory: Inventory
) -> Refused | None:
    """Refuse what this device can't have, or can't have now; None if it can."""
    found, address = device.virtual_functions, device.address
    if found is None:
        return _incapable(device, subject)
    if wanted.count > found.total:
        return Refused(
            subject=subject,
            rule="too-many-virtual-functions",
            kind=FailureKind.USAGE,
            reason=f"{address} can have {found.total} virtual functions, not {wanted.count} ({wanted.place})",
            remedy=f"set `count` to at most {found.total}",
        )
    if device.on_pciback or device.in_guest or inventory.given(address) is not None:
        return Refused(
            subject=subject,
            rule="physical-function-away",
            kind=FailureKind.UNSAFE,
            reason=f"{address} is for a guest itself, and so its virtual functions are not dom0's to make",
            remedy=f"`cede release {address}` first",
        )
    if device.driver is None:
        return Refused(
            subject=subject,
            rule="physical-function-undriven",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} has no driver in dom0 yet, which is what makes virtual functions",
            remedy="load its driver, then apply again",
        )
    if wanted.count == 0:
        return None
    return _refuse_settings(wanted, device, subject, inventory)


def _refuse_settings(
    wanted: WantedFunctions, device: Device, subject: str, inventory: Inventory
) -> Refused | None:
    address, found = device.address, device.virtual_functions
    if not _is_network(device):
        said = [*(["mac"] if wanted.macs else []), *wanted.settings.said]
        return (
            Refused(
                subject=subject,
                rule="no-network-function",
                kind=FailureKind.USAGE,
                reason=f"{address} is no network card, so its virtual functions have no {', '.join(said)}",
                remedy="leave only `count` in `virtual_functions`",
            )
            if said
            else None
        )
    if not device.interfaces:
        return Refused(
            subject=subject,
            rule="no-interface",
            kind=FailureKind.TRY_LATER,
            reason=f"{address} has no network interface in dom0 (yet), by which virtual functions are set up",
            remedy="see what its driver says (dmesg); an interface in another network namespace must come back first",
        )
    if not wanted.macs and not inventory.seed:
        return Refused(
            subject=subject,
            rule="no-machine-id",
            kind=FailureKind.FAILED,
            reason="this host has no /etc/machine-id, of which MACs of its own could be made",
            remedy="`systemd-machine-id-setup`, or list the MACs as `mac` in the policy",
        )
    if found is not None and found.count and len(found.settings) != found.count:
        return Refused(
            subject=subject,
            rule="virtual-functions-untold",
            kind=FailureKind.FAILED,
            reason=f"the driver of {address} doesn't tell how its {found.count} virtual functions are set up",
            remedy=f"see `ip -details link show dev {device.interfaces[0]}`",
        )
    return None


def refuse_functions_in_use(device: Device, subject: str, inventory: Inventory) -> Refused | None:
    """Refuse to change how many virtual functions the device has while one is in use; what can't be told is in use."""
    for virtual in inventory.having("physical_function", device.address):
        why, way_out = _use(virtual, inventory)
        if why:
            return Refused(
                subject=subject,
                rule=IN_USE,
                kind=FailureKind.UNSAFE,
                reason=f"another number of virtual functions takes all away first, and {virtual.address} {why}",
                remedy=way_out,
            )
    return None


def _use(virtual: Device, inventory: Inventory) -> tuple[str, str]:
    """Return how a virtual function is in use, and the way out; both empty if it isn't."""
    address = virtual.address
    release = f"`cede release {address}` first, or leave `count` as it is"
    given, wanting = inventory.given(address), inventory.wanting(address)
    unreadable = inventory.unreadable_holder(address)
    if given is not None:
        holder = inventory.domain_by_id(given.domid)
        return f"is in {holder.name if holder else f'domain {given.domid}'}", release
    if wanting:
        return f"is in the XML of {', '.join(domain.name for domain in wanting)}", release
    if unreadable is not None:
        return (
            f"may be in {unreadable.name}, whose XML can't be read",
            f"correct the XML of {unreadable.name} first",
        )
    if virtual.in_guest:
        return "is in a guest", release
    if virtual.on_pciback:
        return "is on pciback for a guest", release
    if virtual.uses:
        return (
            f"is used by dom0: {virtual.uses[0]}",
            f"move the host off {address} first, or leave `count` as it is",
        )
    return "", ""


def with_physical_named(
    described: DevicePolicy, policy: Policy, inventory: Inventory, physical: Mapping[str, Physical]
) -> DevicePolicy | Refused:
    """Return the device with the address of the physical function that it names; a refusal is that one's."""
    name = described.match.physical_name
    if name is None:
        return described
    known = physical.get(name)
    address = None if known is None else known.address
    if address is None:
        other = policy.device(name)
        if known is not None and isinstance(known.decision, Refused):
            return known.decision
        found = None if other is None else resolve_device(other, inventory, name)
        if found is None or isinstance(found, Refused):
            return found or _nameless(described, name)
        address = found.address
    match = replace(described.match, physical_function=address, physical_name=None)
    return replace(described, match=match)


def _nameless(described: DevicePolicy, name: str) -> Refused:
    return Refused(
        subject=described.name,
        rule="no-device",
        kind=FailureKind.USAGE,
        reason=f"{described.name} ({described.place}) names {name}, which no device of the policy is",
        remedy="correct `physical_function`",
    )


def function_of(described: DevicePolicy, inventory: Inventory) -> Address | None:
    """Return the physical function of the virtual one that is meant, if it can be told; None if none is meant."""
    if described.match.physical_function is not None:
        return described.match.physical_function
    found = candidates(described.match, inventory)
    return found[0].physical_function if len(found) == 1 else None
