"""Rules about one device and one domain, before anything is tried: the planner's decision, and every rule behind it.

The planner stops at the first rule that refuses; the administrator wants to see all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from cede.doctor.finding import Finding, Severity
from cede.errors import FailureKind
from cede.model.actions import SwitchOn
from cede.model.domain import E820_HOST, PASSTHROUGH, Feature, GuestKind
from cede.model.plan import Change, Deferred, Drifted, Paused, Refused, Satisfied
from cede.planner.attach import missing_features
from cede.planner.rules import refusals
from cede.planner.targets import AttachTarget, PlanContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.model.domain import Domain
    from cede.model.plan import Plan

_SOURCES = {
    "root-bus": "libvirt, src/util/virpci.c (virPCIDeviceIsAssignable)",
    "reset-unknown": "libvirt, src/util/virpci.c (virPCIDeviceReset)",
    "no-reset": "libvirt, src/util/virpci.c (virPCIDeviceReset)",
    "sibling-active": "libvirt, src/util/virpci.c (virPCIDeviceReset)",
    "pvh": "Xen, docs/man/xl.cfg.5.pod.in (pci)",
    "memory-on-demand": "Xen, tools/libs/light/libxl_create.c (libxl__domain_config_setdefault)",
    "not-listed": "libvirt, src/node_device/node_device_udev.c",
    "node-devices-unknown": "libvirt, src/node_device/node_device_udev.c",
    "transient": "https://libvirt.org/formatdomain.html",
    "elsewhere": "Xen, docs/misc/xenstore-paths.pandoc (backend/pci)",
}
_FOR_LATER = frozenset({"domain-off"})
_XML = "https://libvirt.org/formatdomain.html#hypervisor-features"


def planned(plan: Plan, subject: str) -> Iterator[Finding]:
    """Yield the planner's decision on the pair."""
    for decision in plan.decisions:
        match decision:
            case Refused():
                yield _refused(decision, subject)
            case Change():
                what = f"cede would: {'; '.join(map(str, decision.actions))}"
                yield _explained("ready", what, subject, decision.action_required)
            case Deferred():
                what = f"nothing to do: {decision.reason}"
                yield _explained("in-place", what, subject, decision.action_required)
            case Satisfied() | Paused() | Drifted():
                yield _explained("in-place", f"nothing to do: {decision.reason}", subject)
            case _:
                assert_never(decision)


def pair_refusals(target: AttachTarget, subject: str) -> Iterator[Finding]:
    """Yield every rule of the planner that refuses the pair, not only the first."""
    for refused in refusals(target, PlanContext.of([target])):
        yield _refused(refused, subject)


def features(domain: Domain) -> Iterator[Finding]:
    """Yield what libxl decided at the domain's start, or will decide at its next.

    Sources: libvirt, src/libxl/libxl_conf.c (libxlMakeDomCreateInfo, libxlMakeDomBuildInfo); Xen,
    docs/man/xl.cfg.5.pod.in (passthrough, e820_host).
    """
    lacking = missing_features(domain)
    if domain.kind is not GuestKind.PVH and not domain.passthrough:
        yield Finding(
            name="passthrough-off",
            severity=Severity.FATAL if domain.running else Severity.WARNING,
            subject=domain.name,
            what=f"{domain.name} was started without passthrough"
            if domain.running
            else f"the XML of {domain.name} does not switch on passthrough",
            why="libxl decides at a domain's start whether the domain may get devices, and else refuses a hot-plug",
            remedy=_switch(domain, PASSTHROUGH, switched=PASSTHROUGH not in lacking),
            source=_XML,
            actions=_steps(domain, PASSTHROUGH, lacking),
        )
    if domain.kind is GuestKind.PV and not domain.e820_host:
        yield Finding(
            name="e820-host-off",
            severity=Severity.WARNING,
            subject=domain.name,
            what=f"{domain.name} does not see the host's memory map",
            why="a BAR of the device can lie where the guest has memory; the device is then offline there",
            remedy=_switch(domain, E820_HOST, switched=E820_HOST not in lacking)
            + "; or give the guest so little memory that its memory ends below the BAR, at most 4 GiB",
            source=_XML,
            actions=_steps(domain, E820_HOST, lacking),
        )


def _switch(domain: Domain, feature: str, *, switched: bool) -> str:
    line = f"<features><xen><{feature} state='on'/></xen></features> in `virsh edit {domain.name}`"
    restart = f"shut {domain.name} down and start it"
    if not domain.running:
        return line
    return f"{restart}: its XML has {feature} on already" if switched else f"{line}, then {restart}"


def _steps(domain: Domain, feature: Feature, lacking: tuple[Feature, ...]) -> tuple[SwitchOn, ...]:
    if feature not in lacking or not domain.persistent:
        return ()
    return (SwitchOn(domain=domain.name, features=(feature,)),)


def _refused(refusal: Refused, subject: str) -> Finding:
    return Finding(
        name=refusal.rule,
        severity=Severity.WARNING if refusal.rule in _FOR_LATER else Severity.FATAL,
        subject=subject,
        what=refusal.reason,
        why="cede refuses this as unsafe"
        if refusal.kind is FailureKind.UNSAFE
        else "`cede attach` would fail here",
        remedy=refusal.remedy,
        source=_SOURCES.get(refusal.rule, "cede's planner"),
    )


def _explained(name: str, what: str, subject: str, action_required: str = "") -> Finding:
    return Finding(
        name=name,
        severity=Severity.NOTE,
        subject=subject,
        what=what,
        why="this is the plan for the pair now",
        remedy=f"then, for you to do: {action_required}" if action_required else "none is needed",
        source="cede's planner",
    )
