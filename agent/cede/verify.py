"""Verify: ask dom0, Xen and the guest itself whether a device is where it should be.

A guest needs a moment to find its new device and load a driver, so a wrong answer is asked again until the time is up.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tenacity import RetryError, Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from cede import evidence
from cede.deadline import begin
from cede.errors import CedeError, GuestSilentError, PermanentError
from cede.guest import login, look
from cede.guest.console import Console
from cede.guest.ssh import Ssh
from cede.guest.xenstore import Helper
from cede.observe import remembered
from cede.policy import Channel, When

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cede.address import Address
    from cede.doors import Doors
    from cede.evidence import Finding
    from cede.guest import channel
    from cede.model import Device, Domain, Inventory
    from cede.policy import Assignment, Verification

_PAUSE = 0.1


def of_host(
    inventory: Inventory, device: Device, domain: Domain, wanted: Assignment
) -> tuple[Finding, ...]:
    """The findings that need no guest: sysfs, both XMLs, xenstore, all from one inventory."""
    if wanted.when is When.NEXT_START and domain.live_hostdev(device.address) is None:
        return evidence.of_dom0(device, domain, plugged=False)
    return (
        *evidence.of_dom0(device, domain),
        *evidence.of_xenstore(inventory.given(device.address), domain),
        *_unasked(wanted.verification),
    )


def _unasked(how: Verification) -> tuple[Finding, ...]:
    return (evidence.unasked(),) if how.guest is Channel.NONE else ()


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
            retry=retry_if_not_result(evidence.proven),
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
        return (evidence.unproven("inventory", missing),)
    slot: Address | None = None

    def given() -> tuple[Finding, ...]:
        nonlocal slot
        found = next((b for b in doors.xenstore.backend() if b.address == address), None)
        slot = found.virtual_slot if found else None
        return evidence.of_xenstore(found, domain)

    logs = _logs(doors, address, domain)
    host = (*evidence.of_dom0(device, domain), *settled(given))
    if how.guest is Channel.NONE or slot is None or not evidence.proven(host):
        return (*host, *logs(host), *_unasked(how))
    at = slot
    last: tuple[Finding, ...] = ()
    try:
        with _opened(doors, domain, how) as guest:

            def seen() -> tuple[Finding, ...]:
                nonlocal last
                said = guest.look(at, max(1.0, left()))
                card = doors.sysfs.switched_on(address)
                last = evidence.of_guest(look.parse(said, at), device, at, card)
                return last

            inside = settled(seen)
            return (*host, *inside, *logs(inside))
    except (GuestSilentError, PermanentError) as error:
        inside = last or (evidence.unproven("guest", _told(error)),)
        return (*host, *inside, *logs(inside))


def _logs(
    doors: Doors, address: Address, domain: Domain
) -> Callable[[Sequence[Finding]], tuple[Finding, ...]]:
    """What takes too long for every `status`: read when the guest has been asked, to tell of what it did meanwhile.

    What comes back is asked with the findings so far: libxl's log only has a say where something is wrong.
    """
    faults = begin("reading Xen's log", lambda: doors.hypervisor.faults(address))

    def read(so_far: Sequence[Finding]) -> tuple[Finding, ...]:
        said = "" if evidence.proven(so_far) else doors.libvirt.last_words(domain.name)
        return (
            *evidence.of_permissive(doors.sysfs.permissive(), address, domain),
            *evidence.of_kernel_log(doors.kernel_log.lines(str(address)), address),
            *evidence.of_xen(faults(), doors.hypervisor.faults(address)),
            *((evidence.noted("libxl's log", f"its last words: {said}"),) if said else ()),
        )

    return read


def _device(doors: Doors, address: Address) -> Device | None:
    """The device as it is now, with what it was known by in dom0."""
    found = doors.sysfs.device(address)
    return found and remembered(found, doors.journal.origin(address))


def _told(error: CedeError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message


@contextmanager
def _opened(doors: Doors, domain: Domain, how: Verification) -> Iterator[channel.Channel]:
    """The channel into the guest, left as it was found; GuestSilentError or PermanentError if it can't be had."""
    if how.guest is Channel.SSH:
        yield Ssh(how.host or domain.name, user=how.user, identity_file=how.identity_file)
    elif how.guest is Channel.XENSTORE:
        if domain.domid is None:
            raise GuestSilentError(f"{domain.name} has ended")
        yield Helper(doors.xenstore, domain.domid)
    else:
        known = (
            login.read(domain.uuid, how.user, how.password_file)
            if how.user and how.password_file
            else None
        )
        with doors.libvirt.console(domain.name) as line:
            console = Console(line, known)
            try:
                yield console
            finally:
                console.leave()
