"""Virtual functions as the policy wants them: how many a device has, how each is set up, and when that can't be.

A physical function stays with dom0, and is a subject of its own in the plan. Its virtual functions are given away like
any other device, but not before they are set up: a guest that takes one with a MAC of zeros may choose any. How many
there are is never changed while one of them is in use, since the kernel takes all of them away first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import ConfigureVirtualFunction, SetVirtualFunctions
from cede.model.pci import Address
from cede.model.plan import Change, Decision, Purpose, Refused, Satisfied, Why
from cede.model.virtual_functions import NO_MAC, FunctionSettings, derived_mac
from cede.planner.function_refusals import (
    IN_USE,
    is_network,
    refuse_functions_in_use,
    refuse_incapable,
    refuse_wanted,
)
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

FUNCTIONS_FIRST = "virtual-functions-first"


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
    wanting = [described for described in policy.devices if described.virtual_functions is not None]
    devices = {
        one.name: walled(_subject(one), partial(resolve_device, one, inventory, _subject(one)))
        for one in wanting
    }
    claims = Counter(one.address for one in devices.values() if not isinstance(one, Refused))
    found: dict[str, Physical] = {}
    for described in wanting:
        subject, device = _subject(described), devices[described.name]
        if isinstance(device, Refused):
            found[described.name] = Physical(address=None, decision=device)
            continue
        decide = partial(_decide, described, device, subject, inventory)
        several = claims[device.address] > 1
        decision = _twice(subject, device) if several else walled(subject, decide)
        found[described.name] = Physical(address=device.address, decision=decision)
    return found


def _subject(described: DevicePolicy) -> str:
    return f"{described.name}: virtual functions"


def _twice(subject: str, device: Device) -> Refused:
    return Refused(
        subject=subject,
        rule="matched-twice",
        kind=FailureKind.USAGE,
        reason=f"several names of the policy mean {device.address}, and say what virtual functions it is to have",
        remedy="say it once",
    )


def _decide(
    described: DevicePolicy, device: Device, subject: str, inventory: Inventory
) -> Decision:
    wanted = described.virtual_functions
    if wanted is None:
        raise ValueError(f"{described.name} is to have no virtual functions")
    pause = pause_of(inventory, device=described.name, address=device.address)
    if pause is not None:
        return left_alone(subject, pause)
    found = device.virtual_functions
    if found is None:
        return refuse_incapable(device, subject)
    refused = refuse_wanted(wanted, found, device, subject, inventory)
    if refused is not None:
        return refused
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
            reason=_reason(found, settings, count),
        )
    return in_use or Satisfied(
        subject=subject,
        why=Why.VIRTUAL_FUNCTIONS_SET_UP,
        reason=f"{device.address} has {wanted.count} virtual functions, set up as they are to be"
        if wanted.count
        else f"{device.address} has no virtual functions",
    )


def _reason(
    found: VirtualFunctions,
    settings: tuple[ConfigureVirtualFunction, ...],
    count: SetVirtualFunctions | None,
) -> str:
    """Say what was found otherwise, where functions that are there already are set up again."""
    if not settings or (count is not None and count.count != count.were):
        return ""
    if not found.up:
        return "its interface is switched off, so that no guest is told its MAC"
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
    if not is_network(device):
        return
    there = wanted.count if anew else min(wanted.count, found.count)
    for index in range(there):
        known = not anew and found.up and index < len(found.settings)
        so = found.settings[index] if known else FunctionSettings()
        mac = wanted.macs[index] if wanted.macs else None
        mac = mac or derived_mac(inventory.seed, str(device.address), index)
        missing = replace(wanted.settings, mac=mac).beyond(so)
        if so.trust and wanted.settings.trust and so.mac not in {None, NO_MAC}:
            missing = replace(missing, mac=None)  # it may be the guest's choice
        if missing.said:
            yield ConfigureVirtualFunction(address=device.address, index=index, settings=missing)


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
