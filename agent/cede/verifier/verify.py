"""Verify: ask dom0, Xen and the guest itself whether a device is where it should be, and explain it by the checklist.

A guest needs a moment to find its new device and load a driver, so a wrong answer is asked again until the time is up.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import RetryError, Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from cede.errors import CedeError, GuestSilentError, PermanentError
from cede.guest import probe
from cede.guest.channels import credentials
from cede.guest.channels.console_channel import Console
from cede.guest.channels.ssh_channel import Ssh
from cede.guest.channels.xenstore_channel import Helper
from cede.model.pci import remembered
from cede.model.policy import Channel, When
from cede.util.timeouts import begin
from cede.verifier import check_results, guest_checks, host_checks
from cede.verifier.checklist import Check, Way, checklist, told_slot
from cede.verifier.host_checks import of_kernel_log

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cede.adapters.composition import Doors
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.policy import Assignment, Verification
    from cede.planner.resolve import Targets
    from cede.verifier.check_results import Checked, Finding

_PAUSE = 0.1


def of_host(
    inventory: Inventory, device: Device, domain: Domain, wanted: Assignment
) -> tuple[Finding, ...]:
    """The findings that need no guest: sysfs, both XMLs, xenstore, all from one inventory."""
    if wanted.when is When.NEXT_START and domain.live_hostdev(device.address) is None:
        return host_checks.of_dom0(device, domain, plugged=False)
    return (
        *host_checks.of_dom0(device, domain),
        *host_checks.of_xenstore(inventory.given(device.address), domain),
        *_unasked(wanted.verification),
    )


def _unasked(how: Verification) -> tuple[Finding, ...]:
    return (check_results.unasked(),) if how.guest is Channel.NONE else ()


def verify(
    doors: Doors,
    address: Address,
    meant: Domain,
    how: Verification,
    *,
    settle: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Finding, ...]:
    """Every finding on the device at `address` in the domain that was `meant`, as both are now.

    Waits at most about `settle` seconds in all (as many as the policy says) for them to turn right; a wrong one is
    returned, not raised.
    """
    deadline = time.monotonic() + (how.timeout if settle is None else settle)

    def left() -> float:
        return max(0.0, deadline - time.monotonic())

    def settled(look: Callable[[], tuple[Finding, ...]]) -> tuple[Finding, ...]:
        again = Retrying(
            retry=retry_if_not_result(check_results.proven),
            stop=stop_after_delay(left()),
            wait=wait_fixed(_PAUSE),
            sleep=sleep,
        )
        try:
            return again(look)
        except RetryError as ended:
            found: tuple[Finding, ...] = ended.last_attempt.result()
            return found

    device, domain = _device(doors, address), doors.libvirt.domain(meant.name)
    if device is None or domain is None or domain.uuid != meant.uuid:
        missing = f"no device at {address}" if device is None else f"no domain {meant.name}"
        return (check_results.unproven("inventory", missing),)
    slot: Address | None = None

    def given() -> tuple[Finding, ...]:
        nonlocal slot
        found = next((b for b in doors.xenstore.backend() if b.address == address), None)
        slot = found.virtual_slot if found else None
        return host_checks.of_xenstore(found, domain)

    logs = _logs(doors, address, domain)
    host = (*host_checks.of_dom0(device, domain), *settled(given))
    if how.guest is Channel.NONE or slot is None or not check_results.proven(host):
        return (*host, *logs(host), *_unasked(how))
    at = slot
    last: tuple[Finding, ...] = ()
    try:
        with _opened(doors, domain, how) as guest:

            def seen() -> tuple[Finding, ...]:
                nonlocal last
                said = guest.look(at, max(1.0, left()))
                card = doors.sysfs.switched_on(address)
                last = guest_checks.of_guest(probe.parse(said, at), device, at, card)
                return last

            inside = settled(seen)
            return (*host, *inside, *logs(inside))
    except (GuestSilentError, PermanentError) as error:
        inside = last or (check_results.unproven("guest", _told(error)),)
        return (*host, *inside, *logs(inside))


def _logs(
    doors: Doors, address: Address, domain: Domain
) -> Callable[[Sequence[Finding]], tuple[Finding, ...]]:
    """What takes too long for every `status`: read when the guest has been asked, to tell of what it did meanwhile.

    What comes back is asked with the findings so far: libxl's log only has a say where something is wrong.
    """
    faults = begin("reading Xen's log", lambda: doors.hypervisor.faults(address))

    def read(so_far: Sequence[Finding]) -> tuple[Finding, ...]:
        said = "" if check_results.proven(so_far) else doors.libvirt.last_words(domain.name)
        return (
            *host_checks.of_permissive(doors.sysfs.permissive(), address, domain),
            *host_checks.of_kernel_log(doors.kernel_log.lines(str(address)), address),
            *host_checks.of_xen(faults(), doors.hypervisor.faults(address)),
            *((check_results.noted("libxl's log", f"its last words: {said}"),) if said else ()),
        )

    return read


def _device(doors: Doors, address: Address) -> Device | None:
    """The device as it is now, with what it was known by in dom0."""
    found = doors.sysfs.device(address)
    return found and remembered(found, doors.journal.origin(address))


def _told(error: CedeError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message


@contextmanager
def _opened(doors: Doors, domain: Domain, how: Verification) -> Iterator[probe.Channel]:
    """The channel into the guest, left as it was found; GuestSilentError or PermanentError if it can't be had."""
    if how.guest is Channel.SSH:
        yield Ssh(how.host or domain.name, user=how.user, identity_file=how.identity_file)
    elif how.guest is Channel.XENSTORE:
        if domain.domid is None:
            raise GuestSilentError(f"{domain.name} has ended")
        yield Helper(doors.xenstore, domain.domid)
    else:
        known = (
            credentials.read(domain.uuid, how.user, how.password_file)
            if how.user and how.password_file
            else None
        )
        with doors.libvirt.console(domain.name) as line:
            console = Console(line, known)
            try:
                yield console
            finally:
                console.leave()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The checklist of one assignment; empty where its device or its domain can't be told."""

    subject: str
    checks: tuple[Check, ...]


def explain(
    doors: Doors,
    targets: Targets,
    checked: tuple[Checked, ...],
    restarted: Collection[str] = (),
) -> tuple[Explained, ...]:
    """The checklist of every assignment, in the policy's order; `restarted` names the domains that were for it."""
    explained = []
    inventory = targets.inventory
    for target, one in zip(targets.each, checked, strict=True):
        device, domain = target.device, target.domain
        checks: tuple[Check, ...] = ()
        if device is not None and domain is not None:
            lines = doors.kernel_log.lines(str(device.address))
            checks = checklist(
                Way(
                    device=device,
                    domain=domain,
                    pciback=doors.modules.loaded(),
                    at_boot=doors.modules.loaders(),
                    directory=inventory.pciback_loaded,
                    given=tuple(g for g in inventory.backend if g.domid == domain.domid),
                    assigned=told_slot(of_kernel_log(lines, device.address)),
                    findings=one.findings,
                    restarted=domain.name in restarted,
                )
            )
        explained.append(Explained(subject=one.subject, checks=checks))
    return tuple(explained)
