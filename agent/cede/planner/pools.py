"""Pools: which device a match with `any: true` means, so that each assignment keeps the card that it once got.

Its own comes first, also while its guest is off; then what the guest had before; then the first that is free, whole and
fit to be given away. What an assignment means by a name of its own is in no pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.plan import Refused
from cede.planner.guards import refuse_guarded
from cede.planner.match import asleep_candidates, candidates
from cede.planner.quarantine import refuse_quarantined
from cede.planner.resets import refuse_no_reset, refuse_reset_unknown, refuse_root_bus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.policy import DevicePolicy, Policy

_MOST_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Obstacle:
    """Why a device can't be chosen; `taken` that another name of the policy has it, `passing` that this may change."""

    reason: str
    taken: bool = False
    passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """What the pools of a policy are chosen from; `named` are what other assigned names mean alone."""

    policy: Policy
    inventory: Inventory
    named: Mapping[Address, str]
    _known: dict[tuple[Address, tuple[str, ...]], _Obstacle | None] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy, inventory: Inventory) -> Pools:
        """Find what is kept out: the one device that an assigned name means, or may mean once it is awake."""
        named: dict[Address, str] = {}
        assigned = {assignment.device for assignment in policy.assignments}
        if any(described.match.any_one for described in policy.devices):
            for described in policy.devices:
                if described.name in assigned and not described.match.any_one:
                    found = candidates(described.match, inventory)
                    resolved = found if len(found) == 1 else asleep_candidates(described, inventory)
                    named |= {device.address: described.name for device in resolved}
        return cls(policy=policy, inventory=inventory, named=named)

    def choose(
        self,
        described: DevicePolicy,
        devices: Sequence[Device],
        before: Iterable[Device],
        taken: Mapping[Address, str],
        subject: str,
        domain: str,
    ) -> Device | Refused:
        """Return the device of those that match, or why there is none.

        `before` are those that cede's notes give this name; `taken` are those of other names of the pass; `domain` is
        what the device is for, empty if nothing.
        """
        matching = {device.address for device in devices}
        others = {**self.named, **taken}
        for device in before:
            if device.address in matching and device.address not in others and self._stays(device):
                return device
        left = [*self._had_before(described.name, devices, domain), *devices]
        for device in left:
            if self._obstacle(device, described, others) is None:
                return device
        return self._refuse(described, devices, others, subject)

    def _stays(self, device: Device) -> bool:
        """Whether what has it keeps it: a broken card is changed only where no guest runs with it."""
        live = any(d.live_hostdev(device.address) for d in self.inventory.wanting(device.address))
        return live or not self._broken(device)

    def _broken(self, device: Device) -> str:
        at = device.address
        held = next((one for one in self.inventory.held if one.address == at), None)
        if held is not None:
            return f"{at} is left alone: {held.reason}"
        refused = refuse_quarantined(device, "", self.inventory)
        return "" if refused is None else refused.reason

    def _had_before(self, name: str, devices: Iterable[Device], domain: str) -> Iterator[Device]:
        found = self.inventory.domain(domain)
        for device in devices:
            gave = self.inventory.gave(device.address)
            if (
                gave is not None
                and found is not None
                and (gave.device, gave.domain) == (name, found.name)
            ):
                yield device

    def _obstacle(
        self, device: Device, described: DevicePolicy, others: Mapping[Address, str]
    ) -> _Obstacle | None:
        if device.address in others:
            return _Obstacle(reason=f"{device.address} is {others[device.address]}'s", taken=True)
        key = (device.address, described.override)
        if key not in self._known:
            self._known[key] = self._found(device, described)
        return self._known[key]

    def _found(self, device: Device, described: DevicePolicy) -> _Obstacle | None:
        inventory, at = self.inventory, device.address
        wanting = [domain.name for domain in inventory.wanting(at)]
        if wanting:
            return _Obstacle(reason=f"{at} is in the XML of {', '.join(wanting)}", passing=True)
        if inventory.given(at) is not None or device.in_guest:
            return _Obstacle(reason=f"a guest has {at}", passing=True)
        broken = self._broken(device)
        if broken:
            return _Obstacle(reason=broken, passing=True)
        refused = (
            refuse_guarded(device, "", inventory, self.policy.protect, described.override)
            or refuse_root_bus(device, "")
            or refuse_reset_unknown(device, "")
            or refuse_no_reset(device, "")
        )
        return None if refused is None else _Obstacle(reason=refused.reason)

    def _refuse(
        self,
        described: DevicePolicy,
        devices: Sequence[Device],
        others: Mapping[Address, str],
        subject: str,
    ) -> Refused:
        obstacles = [
            found for device in devices if (found := self._obstacle(device, described, others))
        ]
        kind = FailureKind.UNSAFE
        if all(one.taken for one in obstacles):
            kind = FailureKind.USAGE
        elif any(one.passing for one in obstacles):
            kind = FailureKind.TRY_LATER
        reasons = "; ".join(one.reason for one in obstacles[:_MOST_SHOWN])
        more = f"; and {len(obstacles) - _MOST_SHOWN} more" if len(obstacles) > _MOST_SHOWN else ""
        fit = ", ".join(str(device.address) for device in self._fitting(described, devices, others))
        return Refused(
            subject=subject,
            rule="none-left",
            kind=kind,
            reason=f"none that {described.name} ({described.place}) matches is left: {reasons}{more}",
            remedy=f"widen its match: of the same class these would fit: {fit}"
            if fit
            else "widen its match, or take an assignment out of the policy; no other device of the class would fit",
        )

    def _fitting(
        self,
        described: DevicePolicy,
        devices: Sequence[Device],
        others: Mapping[Address, str],
    ) -> Iterator[Device]:
        """Yield a few devices of the same base class that could be given away now."""
        classes = {device.identity.class_code[:2] for device in devices}
        shown = 0
        for device in self.inventory.devices:
            fits = device.identity.class_code[:2] in classes and device not in devices
            if fits and self._obstacle(device, described, others) is None:
                yield device
                shown += 1
                if shown == _MOST_SHOWN:
                    return
