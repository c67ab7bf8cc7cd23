"""Resolves, plans, assesses and takes the exit status for a large host, plans its drain and its boot; prints the time.

test_planner_speed.py starts it. The argument is the number of domains; there are five times as many devices. The
seconds are measured with Python's garbage collector and without, whose work grows faster than what it goes through.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from cede.commands.exit_status import of_plan, of_status
from cede.executor.executor import conflict_groups
from cede.model.domain import Domain, GuestKind, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.journal_state import Origin, Pause
from cede.model.pci import PCIBACK, Address, Device, HostUse, Identity, Link, OriginalState, Reset
from cede.model.plan import Change, Outcome, Plan, Purpose, Satisfied
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy, Protect
from cede.planner.boot_plan import awaited, plan_boot
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.services.pass_report import Report
from cede.verifier.checklist import AssignmentChecks, Witness, check_result

SOURCE = "policy.yaml"
PER_DOMAIN, RUNS = 5, 3
PLACE = Place(file=SOURCE, line=1, column=1)
NIC = Identity(vendor="8086", device="10ed", subsystem="8086:a01f", class_code="020000")
DISK = replace(NIC, class_code="010802")
LINKS = (Link(name="eth0", mac="52:54:00:ff:ff:ff"),)


def address(number: int) -> Address:
    """Two functions to a bus, 250 buses to a segment."""
    return Address(number // 500, 1 + number % 500 // 2, 0, number % 2)


def mac(number: int) -> str:
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def serial(number: int) -> str:
    return f"00-00-00-00-00-00-{number >> 8:02x}-{number & 255:02x}"


def identity(number: int) -> Identity:
    return DISK if number % 4 == 3 else NIC


def origin(number: int) -> Origin:
    state = OriginalState(identity=identity(number), serial=serial(number), driver="e", links=LINKS)
    return Origin(address=address(number), state=state)


def device(number: int, *, given: bool) -> Device:
    here = address(number)
    use = HostUse(guard="member", chain=(str(here), f"disk {number}", "a pool"))
    return Device(
        address=here,
        identity=identity(number),
        driver=PCIBACK if given else "ixgbevf",
        driver_override=PCIBACK if given else None,
        reset=Reset.FLR,
        mac=None if given else mac(number),
        serial=serial(number),
        path=f"pci{here.segment:04x}:00/{here.bus % 32:02x}.0/00.{here.function}",
        in_pciback_slots=given,
        uses=(use,) if number % 10 == 9 else (),
    )


def host(count: int) -> tuple[Inventory, Policy]:
    """Each domain has 2 to 4 hostdevs; a third is in place, a third to be done, a third left over from before."""
    sizes = list(islice(cycle((2, 3, 4)), count))
    starts = [sum(sizes[:n]) for n in range(count)]
    domains, backend, devices, assignments = [], [], [], []
    given: set[int] = set()
    for n, (first, size) in enumerate(zip(starts, sizes, strict=True)):
        name, numbers = f"guest{n}", range(first, first + size)
        there = numbers if n % 3 else ()
        given.update(there)
        hostdevs = tuple(Hostdev(address=address(i), alias=f"ua-cede-nic{i}") for i in there)
        domains.append(
            Domain(
                name=name, uuid=f"00000000-0000-0000-0000-{n:012}", kind=GuestKind.PV, domid=n + 1,
                live=hostdevs, config=hostdevs,
                ownership=tuple(Ownership(name=f"nic{i}", address=address(i), policy=SOURCE) for i in there),
            )
        )  # fmt: skip
        backend += [BackendDevice(domid=n + 1, address=address(i), index=0) for i in there]
        if n % 3 < 2:
            for i in numbers:
                how = (Match(address=address(i)), Match(mac=mac(i)), Match(serial=serial(i)))[i % 3]
                expect = Expect(vendor="8086", device="10ed")
                devices.append(DevicePolicy(name=f"nic{i}", match=how, expect=expect, place=PLACE))
                assignments.append(Assignment(device=f"nic{i}", domain=name, place=PLACE))
    protect = tuple(
        Protect(match=match, reason="ours", place=PLACE)
        for match in (Match(class_code="03"), Match(vendor="144d"), Match(address=address(3999)))
    )
    inventory = Inventory(
        devices=tuple(
            device(number, given=number in given) for number in range(count * PER_DOMAIN)
        ),
        domains=tuple(domains),
        backend=tuple(backend),
        pciback_loaded=True,
        origins=tuple(origin(number) for number in sorted(given)),
    )
    policy = Policy(
        source=SOURCE, devices=tuple(devices), assignments=tuple(assignments), protect=protect
    )
    return inventory, policy


def megabytes(name: str) -> float:
    """VmHWM is this program's alone; getrusage's ru_maxrss includes the process that it was started from."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1e3


def checks(planned: Plan) -> list[AssignmentChecks]:
    """What dom0 says of each assignment that needs nothing, and its guest of each that was done."""
    witness = {Satisfied: Witness.HOST, Change: Witness.GUEST}
    return [
        AssignmentChecks(
            subject=decision.subject,
            findings=(
                replace(check_result("xenstore", "so", "so", passed=True), witness=said),
                replace(check_result("xl", "so", "so", passed=True), witness=said),
            ),
        )
        for decision in planned.decisions
        if (said := witness.get(type(decision)))
    ]


def fresh(inventory: Inventory) -> Inventory:
    """The same host without what look-ups have built."""
    return replace(inventory, domains=tuple(replace(domain) for domain in inventory.domains))


def main() -> None:
    inventory, policy = host(int(sys.argv[1]))
    targets = resolve_targets(policy, inventory)
    planned = plan(targets)
    outcomes, checked = [Outcome(change=change) for change in planned.changes], checks(planned)
    before = Report.of(planned, outcomes, checked, targets=targets.each, at="1").conditions
    kinds = Counter(type(decision).__name__ for decision in planned.decisions)
    del targets, planned
    times: dict[bool, list[float]] = {True: [], False: []}
    for collecting in (True, False) * RUNS:
        inventory = fresh(inventory)
        gc.collect()
        (gc.enable if collecting else gc.disable)()
        started = time.process_time()
        targets = resolve_targets(policy, inventory)
        planned = plan(targets)
        done = Report.of(planned, outcomes, checked, targets=targets.each, previous=before, at="2")
        of_plan(planned), of_status(done)
        times[collecting].append(time.process_time() - started)
        kinds |= Counter(status.severity for status in done.statuses)
        del targets, planned, done
    peak = megabytes("VmHWM")
    drained = replace(inventory, pauses=(Pause(drained=True),))
    started = time.process_time()
    drain = plan(resolve_targets(policy, drained))
    conflict_groups(drain.changes)
    plan_boot(policy, inventory)
    awaited(policy, inventory)
    others = time.process_time() - started
    kinds |= Counter({"drained": sum(change.purpose is Purpose.DRAIN for change in drain.changes)})
    figures = {
        "seconds": min(times[True]), "uncollected": min(times[False]), "others": others,
        "megabytes": peak, "counts": kinds,
    }  # fmt: skip
    print(json.dumps(figures))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
