"""Devices on pciback while dom0 comes up: the early binder's plan, and what binds even earlier.

While dom0 comes up little tells what it will live on: no route is set, no guest runs, a late mount is still to come. So
nothing is taken then but what cede had taken before, when all that was known. The rest is left to `cede apply`.
Earlier than `cede boot` only the initramfs can be. What it hides it hides by address, whatever card stands there by
then, and it asks no guard: so only devices that may go are proposed.
Sources: drivers/xen/xen-pciback/pci_stub.c, modprobe.d(5), modules-load.d(5), initramfs-tools(7), dracut.conf(5),
dracut.cmdline(7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from cede.errors import FailureKind
from cede.model.actions import SetVirtualFunctions
from cede.model.domain import Domain, GuestKind
from cede.model.pci import PCIBACK, Address, Device
from cede.model.plan import Card, Change, Decision, Plan, Purpose, Refused, Satisfied, Why
from cede.model.policy import When
from cede.planner.attach import bind_actions
from cede.planner.groups import Member, keep_together
from cede.planner.guards import refuse_guarded
from cede.planner.hide_mistakes import BootConfiguration, Mistake, mistakes
from cede.planner.match import candidates
from cede.planner.paused import left_alone
from cede.planner.pauses import unless_held
from cede.planner.release import refuse_unreadable
from cede.planner.resolve import resolve_targets
from cede.planner.rules import Asked, first_answer
from cede.planner.targets import AttachTarget, PlanContext
from cede.planner.virtual_functions import physical_functions, with_physical_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cede.model.inventory import Inventory
    from cede.model.journal_state import Pause
    from cede.model.policy import DevicePolicy, Policy
    from cede.planner.resolve import Target


# whatever domains may have a device, they start once dom0 is up
_ANY_GUEST = Domain(name="a guest", uuid="-", kind=GuestKind.PV)


def plan_boot(policy: Policy, inventory: Inventory) -> Plan:
    """Plan to bind each assigned device to pciback; one decision per function, whatever domains may have it.

    And a refusal for each domain whose file can't be read.
    """
    decided: dict[str, list[Decision]] = {}
    for named, _, decision in _decisions(policy, inventory):
        decided.setdefault(named.name, []).append(decision)
    domains = {
        a.device: [o.domain for o in policy.assignments_of(a.device)] for a in policy.assignments
    }
    physical = (
        unless_held(one.decision, inventory)
        for one in physical_functions(policy, inventory).values()
    )
    return Plan(
        decisions=(
            *map(_from_none, physical),
            *chain.from_iterable(decided.values()),
            *map(_unreadable, inventory.unreadable),
        ),
        cards=tuple(
            Card(
                assignment=_subject(name, domains[name]),
                functions=tuple(decision.subject for decision in functions),
            )
            for name, functions in decided.items()
            if len(functions) > 1
        ),
    )


def _subject(name: str, domains: Iterable[str]) -> str:
    return f"{name} -> {' or '.join(domains)}"


def _from_none(decision: Decision) -> Decision:
    """Refuse to change a number of virtual functions that isn't none: what uses them may not have come yet."""
    if isinstance(decision, Change):
        for action in decision.actions:
            if isinstance(action, SetVirtualFunctions) and action.were not in {0, action.count}:
                return Refused(
                    subject=decision.subject,
                    rule="not-at-boot",
                    kind=FailureKind.TRY_LATER,
                    reason=f"{action.address} has {action.were} virtual functions, of which dom0 may need one",
                    remedy="`cede apply` once dom0 is up",
                )
    return decision


def _unreadable(domain: Domain) -> Refused:
    """A domain whose file can't be read: libvirt won't know it, and what it needs can't be told."""
    refused = refuse_unreadable(domain, f"domain {domain.name}")
    return replace(
        refused, remedy=f"correct or restore the file of {domain.name}; libvirt skips it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """What pciback may hold back from dom0's drivers from the start.

    `devices` are those; `refused` the answers for devices that are assigned and may not be held back, by address;
    `plan` has the decision of each.
    """

    devices: tuple[Device, ...]
    refused: Mapping[Address, Refused]
    plan: Plan


def held_back(policy: Policy, inventory: Inventory) -> HeldBack:
    """Return the devices that pciback may hold back from dom0's drivers from the start, and why not the others."""
    devices = []
    refused: dict[Address, Refused] = {}
    decisions = list(_decisions(policy, inventory, by_initramfs=True))
    for named, device, decision in decisions:
        answer = decision if isinstance(decision, Refused) else None
        if device is None:
            if answer is not None:
                refused = dict.fromkeys(_resolved(named, inventory), answer) | refused
            continue
        answer = answer or refuse_guarded(
            device, decision.subject, inventory, policy.protect, named.override
        )
        if answer is None:
            devices.append(device)
        else:
            refused[device.address] = answer
    return HeldBack(
        devices=tuple(devices),
        refused=refused,
        plan=Plan(decisions=tuple(decision for _, _, decision in decisions)),
    )


def _resolved(named: DevicePolicy, inventory: Inventory) -> set[Address]:
    """Where the devices stand that a name may mean, though it can't be told which one, or that it is that one."""
    fitting = {device.address for device in candidates(named.match, inventory)}
    return fitting | ({named.match.address} if named.match.address is not None else set())


def awaited(policy: Policy, inventory: Inventory) -> tuple[str, ...]:
    """Return the names of devices that may still appear: nothing matches yet, or the driver is not bound yet."""
    physical = physical_functions(policy, inventory)

    def appeared(described: DevicePolicy) -> Sequence[Device]:
        named = with_physical_named(described, policy, inventory, physical)
        return () if isinstance(named, Refused) else candidates(named.match, inventory)

    return tuple(
        named.name for named in _assigned(policy) if all(map(_undriven_yet, appeared(named)))
    )


def _undriven_yet(device: Device) -> bool:
    had = device.original_state.driver if device.original_state else None
    return device.driver is None and had is not None


def _assigned(policy: Policy) -> list[DevicePolicy]:
    names = dict.fromkeys(assignment.device for assignment in policy.assignments)
    return [named for name in names if (named := policy.device(name)) is not None]


def _decisions(
    policy: Policy, inventory: Inventory, *, by_initramfs: bool = False
) -> Iterator[tuple[DevicePolicy, Device | None, Decision]]:
    targets = resolve_targets(policy, inventory)
    of_name: dict[str, list[Target]] = {}
    for target in targets.each:
        of_name.setdefault(target.assignment.device, []).append(target)
    candidates = {
        name: _candidates(name, those, policy, inventory) for name, those in of_name.items()
    }
    context = PlanContext.of(chain.from_iterable(candidates.values()))
    for named in _assigned(policy):
        functions, those = candidates[named.name], of_name[named.name]
        pauses = [target.pause for target in those if target.device is not None]
        members = []
        for candidate in functions:
            refusal = _refuse_hidden(candidate, context) if by_initramfs else None
            decision = refusal or _decision(candidate, context, pauses)
            members.append(Member(decision=decision, address=None, owner=named.name, domain=""))
        for candidate, decision in zip(functions, keep_together(members, inventory), strict=True):
            yield named, candidate.device, decision
        if not functions and those[0].refusal is not None:
            yield named, None, those[0].refusal


def _candidates(
    name: str, targets: Iterable[Target], policy: Policy, inventory: Inventory
) -> list[AttachTarget]:
    """One for each function of the device of that name, whatever domains may have it."""
    targets = list(targets)
    domains = dict.fromkeys(target.assignment.domain for target in targets)
    subject = _subject(name, domains)
    found = {target.device.address: target for target in targets if target.device is not None}
    return [
        AttachTarget(
            subject=f"{subject} ({address})" if target.functions else subject,
            assignment=replace(target.assignment, when=When.NEXT_START),
            device=target.device,
            domain=_ANY_GUEST,
            policy=policy,
            inventory=inventory,
            functions=target.functions,
        )
        for address, target in found.items()
        if target.device is not None
    ]


def _refuse_hidden(candidate: AttachTarget, context: PlanContext) -> Refused | None:
    """Refuse what is on pciback because it is hidden, if no guest may have it: another boot changes nothing."""
    answer = first_answer(candidate, context, Asked.ALWAYS)
    return answer if isinstance(answer, Refused) and not answer.may_pass else None


def _decision(
    candidate: AttachTarget, context: PlanContext, pauses: Sequence[Pause | None]
) -> Decision:
    device, subject = candidate.device, candidate.subject
    if device.on_pciback and device.address not in context.twice:
        reason = f"{device.address} is on pciback already"
        return Satisfied(subject=subject, why=Why.ASSIGNABLE, reason=reason)
    if all(pauses) and pauses[0] is not None:
        return left_alone(subject, pauses[0], device.address)
    answer = first_answer(candidate, context, Asked.AT_BOOT)
    if answer is not None:
        return answer
    return Change(
        subject=subject,
        purpose=Purpose.BIND,
        device=candidate.assignment.device,
        address=device.address,
        identity=device.identity,
        instance=device.instance,
        actions=tuple(bind_actions(candidate)),
        override=candidate.override,
    )


_HEAD = "# For cede, which tells it anew with `cede boot --print`."
_REBUILD = {"initramfs-tools": "update-initramfs -u -k all", "dracut": "dracut -f --regenerate-all"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to write, or a line to add to one.

    `path` is where it is; `lines` are what is to stand in it; `why` is what the lines do; `then` is the command that
    makes it count, empty if none is needed.
    """

    path: str
    lines: tuple[str, ...]
    why: str
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyBoot:
    """How devices are held back from the very start, and what is wrong with how they are today.

    `devices` are the addresses that may be held back, in order; `files` are to be written or added to; `left_out` are
    the devices of the policy that are not held back, and why; `mistakes` are what is wrong with what the host is told.
    """

    devices: tuple[Address, ...]
    files: tuple[File, ...]
    left_out: tuple[Refused, ...]
    mistakes: tuple[Mistake, ...]


def early_boot(policy: Policy, inventory: Inventory, configuration: BootConfiguration) -> EarlyBoot:
    """Plan what to write for this policy on this host."""
    held = held_back(policy, inventory)
    addresses = tuple(sorted(device.address for device in held.devices))
    return EarlyBoot(
        devices=addresses,
        files=tuple(_files(held.devices, configuration)) if held.devices else (),
        left_out=held.plan.refusals,
        mistakes=tuple(mistakes(addresses, held.refused, policy, inventory, configuration)),
    )


def _files(devices: Iterable[Device], configuration: BootConfiguration) -> Iterator[File]:
    hide = "".join(f"({address})" for address in sorted(d.address for d in devices))
    drivers = sorted({driver for device in devices if (driver := _own_driver(device))})
    parameter = f"xen-pciback.hide={hide}"
    if "dracut" in configuration.makers and not configuration.built_in:
        parameter = f"rd.driver.pre=xen-pciback {parameter}"
    if not configuration.built_in:
        yield File(
            path="/etc/modules-load.d/cede.conf",
            lines=(_HEAD, "xen-pciback"),
            why="loads xen-pciback at every boot, before `cede boot` needs it; too late to be there before the drivers",
        )
        yield File(
            path="/etc/modprobe.d/cede.conf",
            lines=(
                _HEAD,
                f"options xen-pciback hide={hide}",
                *(f"softdep {driver} pre: xen-pciback" for driver in drivers),
            ),
            why="has xen-pciback take these addresses when it is loaded, and loads it before "
            + (" and ".join(drivers) or "any driver of theirs"),
        )
        yield from _initramfs(configuration)
    yield File(
        path="/etc/default/grub.d/cede.cfg",
        lines=(_HEAD, f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {parameter}"'),
        why="the same on the kernel's command line, which "
        + (
            "a xen-pciback that is built in reads before any driver is there"
            if configuration.built_in
            else "overrules modprobe.d; one of the two is enough"
        ),
        then="update-grub (elsewhere: the line in /etc/default/grub, and grub2-mkconfig -o /boot/grub2/grub.cfg)",
    )


def _initramfs(configuration: BootConfiguration) -> Iterator[File]:
    makers = configuration.makers or tuple(_REBUILD)
    if "initramfs-tools" in makers:
        yield File(
            path="/etc/initramfs-tools/modules",
            lines=("xen-pciback",),
            why="a line to add: puts xen-pciback into the initramfs and loads it there, before udev loads drivers; "
            "modprobe.d goes along",
            then=_REBUILD["initramfs-tools"],
        )
    if "dracut" in makers:
        yield File(
            path="/etc/dracut.conf.d/cede.conf",
            lines=(
                _HEAD,
                'force_drivers+=" xen-pciback "',
                'install_items+=" /etc/modprobe.d/cede.conf "',
            ),
            why="puts xen-pciback and its options into the initramfs and loads it there before udev loads drivers, as "
            "rd.driver.pre=xen-pciback on the kernel's command line does",
            then=_REBUILD["dracut"],
        )


def _own_driver(device: Device) -> str | None:
    """The driver that dom0 would have it with."""
    if device.driver not in {None, PCIBACK}:
        return device.driver
    return device.original_state.driver if device.original_state else None
