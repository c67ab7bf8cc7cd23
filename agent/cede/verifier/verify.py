"""Verify: ask dom0, Xen and the guest itself whether a device is where it should be, and explain it by the checklist.

A guest needs a moment to find its new device and load a driver, so a failed check is repeated until the time is up.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cede.errors import CedeError, GuestSilentError, PermanentError, unexpected
from cede.guest import probe
from cede.model.pci import with_original_state
from cede.model.plan import Subject
from cede.model.policy import Channel, When
from cede.util.retry import wait_for
from cede.verifier import guest_checks, host_checks
from cede.verifier.checklist import (
    ChecklistFacts,
    ChecklistItem,
    by_guest,
    checklist,
    info_result,
    not_asked_result,
    not_explained,
    slot_line,
    unverified_result,
    verified,
)
from cede.verifier.host_checks import of_kernel_log

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cede.adapters.ports import Adapters
    from cede.model.domain import Domain
    from cede.model.inventory import Inventory
    from cede.model.pci import Address, Device
    from cede.model.policy import Assignment, Verification
    from cede.planner.resolve import Target, Targets
    from cede.verifier.checklist import AssignmentChecks, CheckResult

_PAUSE = 0.1
_Results = tuple["CheckResult", ...]


def of_host(
    inventory: Inventory, device: Device, domain: Domain, assignment: Assignment
) -> tuple[CheckResult, ...]:
    """Return the results that need no guest: sysfs, both XMLs, xenstore, all from one inventory."""
    if assignment.when is When.NEXT_START and domain.live_hostdev(device.address) is None:
        return host_checks.of_dom0(device, domain, plugged=False)
    return (
        *host_checks.of_dom0(device, domain),
        *host_checks.of_xenstore(inventory.given(device.address), domain),
        *_unasked(assignment.verification),
    )


def _unasked(verification: Verification) -> tuple[CheckResult, ...]:
    return (not_asked_result(),) if verification.guest is Channel.NONE else ()


def verify(
    adapters: Adapters,
    address: Address,
    expected_domain: Domain,
    verification: Verification,
    *,
    timeout: float | None = None,
) -> tuple[CheckResult, ...]:
    """Check the device at `address` in `expected_domain`, as both are now.

    Waits at most about `timeout` seconds in all (by default as many as the policy says) for the checks to pass; a
    failed check is returned, not raised.
    """
    clock = adapters.clock
    deadline = clock.monotonic() + (verification.timeout if timeout is None else timeout)

    def left() -> float:
        return max(0.0, deadline - clock.monotonic())

    def until_verified(look: Callable[[], tuple[CheckResult, ...]]) -> tuple[CheckResult, ...]:
        return wait_for(look, verified, left(), clock, pause=_PAUSE)

    device, domain = _device(adapters, address), adapters.libvirt.domain(expected_domain.name)
    if device is None or domain is None or domain.uuid != expected_domain.uuid:
        missing = (
            f"no device at {address}" if device is None else f"no domain {expected_domain.name}"
        )
        return (unverified_result("inventory", missing),)
    slot: Address | None = None

    def given() -> tuple[CheckResult, ...]:
        nonlocal slot
        found = next((b for b in adapters.xenstore.backend() if b.address == address), None)
        slot = found.slot_in(domain.kind) if found else None
        return host_checks.of_xenstore(found, domain)

    logs = _logs(adapters, address, domain)
    host = (*host_checks.of_dom0(device, domain), *until_verified(given))
    if verification.guest is Channel.NONE or slot is None or not verified(host):
        return (*host, *logs(host), *_unasked(verification))
    at = slot

    def asked(guest: probe.GuestChannel) -> _Results:
        said = probe.parse(guest.probe(at, max(1.0, left())), at)
        return guest_checks.of_guest(said, device, at, adapters.sysfs.switched_on(address))

    if verification.guest is Channel.DEVICE:
        inside = until_verified(
            lambda: (host_checks.of_device(adapters.sysfs.switched_on(address)),)
        )
    else:
        inside = _of_guest(adapters, domain, verification, asked, until_verified)
    return (*host, *inside, *logs(inside))


def _of_guest(
    adapters: Adapters,
    domain: Domain,
    verification: Verification,
    ask: Callable[[probe.GuestChannel], _Results],
    until_verified: Callable[[Callable[[], _Results]], _Results],
) -> _Results:
    """Return what the guest says when it is asked; what it said last, if it falls silent."""
    last: _Results = ()

    def seen() -> _Results:
        nonlocal last
        last = ask(guest)
        return last

    try:
        with _opened(adapters, domain, verification) as guest:
            return until_verified(seen)
    except (GuestSilentError, PermanentError) as error:
        return last or by_guest(unverified_result("guest", _message(error)))
    except CedeError:
        raise
    except Exception as fault:  # noqa: BLE001 - what dom0 has found is kept, whatever the guest said
        why = unexpected(fault, f"asking {domain.name}")
        return by_guest(unverified_result("guest", why.message))


def _logs(
    adapters: Adapters, address: Address, domain: Domain
) -> Callable[[Sequence[CheckResult]], tuple[CheckResult, ...]]:
    """Return a function that reads the logs after the guest was asked; too slow for every `status`.

    The function takes the results so far: libxl's log is quoted only where a check failed.
    """
    faults = adapters.timeouts.start(
        "reading Xen's log", lambda: adapters.hypervisor.faults(address)
    )

    def read(so_far: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
        said = "" if verified(so_far) else adapters.libvirt.last_libxl_line(domain.name)
        return (
            *host_checks.of_permissive(adapters.sysfs.permissive(), address, domain),
            *host_checks.of_kernel_log(adapters.kernel_log.lines(str(address)), address),
            *host_checks.of_xen(faults(), adapters.hypervisor.faults(address)),
            *((info_result("libxl's log", f"last line: {said}"),) if said else ()),
        )

    return read


def _device(adapters: Adapters, address: Address) -> Device | None:
    """Return the device as it is now, with its original host state."""
    device = adapters.sysfs.device(address)
    return device and with_original_state(device, adapters.journal.original_state(address))


def _message(error: CedeError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message


@contextmanager
def _opened(
    adapters: Adapters, domain: Domain, verification: Verification
) -> Iterator[probe.GuestChannel]:
    """Open the channel into the guest, and leave the guest as it was. Raises GuestSilentError or PermanentError."""
    if verification.guest is Channel.SSH:
        from cede.guest.channels.ssh_channel import SshChannel

        yield SshChannel(
            verification.host or domain.name,
            user=verification.user,
            identity_file=verification.identity_file,
        )
    elif verification.guest is Channel.XENSTORE:
        if domain.domid is None:
            raise GuestSilentError(f"{domain.name} has ended", name="domain-ended")
        from cede.guest.channels.xenstore_channel import XenstoreChannel

        yield XenstoreChannel(
            adapters.xenstore,
            domain.domid,
            clock=adapters.clock.monotonic,
            sleep=adapters.clock.sleep,
        )
    else:
        from cede.guest.channels import credentials
        from cede.guest.channels.console_channel import ConsoleChannel

        known = (
            credentials.read_login(
                domain.uuid, verification.user, verification.password_file, adapters.refused_logins
            )
            if verification.user and verification.password_file
            else None
        )
        with adapters.libvirt.console(domain.name) as line:
            console = ConsoleChannel(
                line,
                known,
                adapters.clock.monotonic,
                ended=lambda: all(
                    given.domid != domain.domid for given in adapters.xenstore.backend()
                ),
            )
            try:
                yield console
            finally:
                console.leave()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The checklist of one assignment.

    `checks` are all its items in order, none if the assignment has no device or no domain.
    """

    subject: Subject
    checks: tuple[ChecklistItem, ...]


def explain_by_checklist(
    adapters: Adapters,
    targets: Targets,
    checked: tuple[AssignmentChecks, ...],
    restarted: Collection[str] = (),
) -> tuple[Explained, ...]:
    """Return the checklist of every assignment, in the policy's order; `restarted` names the restarted domains."""
    explained = []
    for target, one in zip(targets.each, checked, strict=True):
        try:
            checks = _checklist(adapters, target, targets.inventory, one, restarted)
        except Exception as fault:  # noqa: BLE001 - whatever one device makes of cede, the others are explained
            error = fault if isinstance(fault, CedeError) else None
            why = error or unexpected(fault, f"explaining {one.subject}")
            checks = (not_explained(why.message),)
        explained.append(Explained(subject=one.subject, checks=checks))
    return tuple(explained)


def _checklist(
    adapters: Adapters,
    target: Target,
    inventory: Inventory,
    checked: AssignmentChecks,
    restarted: Collection[str],
) -> tuple[ChecklistItem, ...]:
    device, domain = target.device, target.domain
    if device is None or domain is None:
        return ()
    lines = adapters.kernel_log.lines(str(device.address))
    return checklist(
        ChecklistFacts(
            device=device,
            domain=domain,
            pciback=adapters.modules.loaded(),
            at_boot=adapters.modules.loaders(),
            directory=inventory.pciback_loaded,
            given=tuple(g for g in inventory.backend if g.domid == domain.domid),
            assigned=slot_line(of_kernel_log(lines, device.address)),
            findings=checked.findings,
            restarted=domain.name in restarted,
        )
    )
