"""The doctor's rules, each on what a host, a kernel or Xen says: what is wrong is found, and nothing else.

tests/corpus/doctor has the lines: as the lab, bug reports and mailing lists show them, else as the sources word them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.composition import connect_libvirt, host_runtime
from cede.doctor import daemon_rules, diagnosis, guest_rules, pciback_rules, xen_rules
from cede.doctor.finding import HOST, Facts, Finding, Severity, quoted
from cede.errors import PermanentError, UnreachableError
from cede.model.actions import LoadAtBoot, LoadPciback, SwitchOn
from cede.model.domain import Domain, GuestKind
from cede.model.hide_settings import settings
from cede.model.inventory import BackendDevice, Inventory, LibxlNote
from cede.model.pci import Address, Device, HostUse, Identity, Reset
from cede.model.policy import Assignment, DevicePolicy, Expect, Match, Place, Policy
from cede.planner.hide_mistakes import BootConfiguration
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets, subject_of
from cede.util.text import is_plain
from unit.raises import raises

CORPUS = Path(__file__).parents[1] / "corpus/doctor"
NIC, DISK = Address(0, 1, 0, 0), Address(0, 3, 0, 0)
CARD = Device(
    address=NIC,
    identity=Identity(vendor="8086", device="10d3", class_code="020000"),
    driver="e1000e",
    reset=Reset.FLR,
)
PV = Domain(name="pv1", uuid="u1", kind=GuestKind.PV, domid=1)
INVENTORY = Inventory(devices=(CARD,), domains=(PV,), pciback_loaded=True)
HEALTHY = Facts(
    is_dom0=True,
    virtualisation=("hvm", "pv", "hvm_directio", "pv_directio"),
    xen_command_line="console=com1 dom0_mem=1536M,max:1536M",
    xen_log=(
        "(XEN) I/O virtualisation enabled",
        "(XEN)  - Dom0 mode: Relaxed",
        "(XEN) Interrupt remapping enabled",
    ),
    kernel_log=(
        "xen_pciback: backend is vpci",
        "pciback 0000:01:00.0: xen_pciback: seizing device",
        "xen_pciback: vpci: assign to virtual slot 0",
    ),
    boot=BootConfiguration(loaders=("/etc/initramfs-tools/modules",)),
    inventory=INVENTORY,
)
WITHOUT = replace(INVENTORY, pciback_loaded=False)
UNLISTED = replace(INVENTORY, devices=(replace(CARD, node_device=None),))


def recorded(file: str) -> list[tuple[str, dict[str, Severity]]]:
    """Lines of a log, and what each is a sign of: a rule's name and severity before it, or `-` for nothing."""
    cases = []
    for row in (CORPUS / file).read_text().splitlines():
        name, severity, line = row.split("\t", 2)
        cases.append((line, {} if name == "-" else {name: Severity(severity)}))
    return cases


def host(**changed: object) -> dict[str, Severity]:
    """What is found on a healthy host of which that is different, by the rules' names."""
    found = diagnosis.of_host(replace(HEALTHY, **changed))  # type: ignore[arg-type]
    return {one.name: one.severity for one in found}


def test_a_healthy_host_has_nothing_wrong() -> None:
    assert diagnosis.of_host(HEALTHY) == ()


FATAL, WARNING, NOTE = Severity


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"hypervisor": ""}, {"not-xen": FATAL}),
        ({"hypervisor": "kvm"}, {"not-xen": FATAL}),
        ({"is_dom0": False}, {"not-dom0": FATAL}),
        ({"is_dom0": None}, {}),
        ({"has_xl": False}, {"no-xl": FATAL}),
        ({"virtualisation": ("hvm", "pv")}, {"iommu-off": FATAL}),
        ({"virtualisation": ("pv", "pv_directio")}, {}),
        ({"virtualisation": (), "xen_log": ("(XEN) I/O virtualisation disabled",)}, {"iommu-off": FATAL}),
        ({"virtualisation": (), "xen_log": ()}, {}),
        ({"xen_log": ("(XEN) Interrupt remapping disabled",)}, {"interrupt-remapping-off": WARNING}),
        ({"inventory": WITHOUT, "pciback_available": False}, {"pciback-missing": FATAL}),
        ({"inventory": WITHOUT}, {"pciback-not-loaded": WARNING}),
        ({"inventory": WITHOUT, "pciback_available": None}, {"pciback-not-loaded": WARNING}),
        ({"pciback_at_boot": False}, {"pciback-not-at-boot": WARNING}),
        ({"is_root": False}, {"not-root": NOTE}),
        ({"no_xenstore": UnreachableError("no socket")}, {"xenstore-down": FATAL}),
        ({"no_node_devices": UnreachableError("virtnodedevd-sock")}, {"virtnodedevd-down": FATAL}),
        ({"unreadable_logs": ("dom0's kernel log",)}, {"log-unreadable": WARNING}),
        ({"inventory": UNLISTED}, {"node-devices-unknown": FATAL}),
        ({"not_observed": PermanentError("the journal can't be read")}, {"not-observed": FATAL}),
        ({"libxl_notes": (LibxlNote(address=NIC, domid=7),)}, {"stale-libxl-note": WARNING}),
        ({"power": {NIC: "D3cold"}}, {"asleep": WARNING}),
        ({"power": {NIC: "D3hot", DISK: "unknown"}}, {}),
    ],
)  # fmt: skip
def test_each_sign_of_a_host_is_known(changed: dict[str, object], found: dict[str, str]) -> None:
    assert host(**changed) == found


@pytest.mark.parametrize(
    ("said", "found"),
    recorded("libvirt.tsv"),
)
def test_libvirts_own_words_report_what_is_wrong_with_it(
    said: str, found: dict[str, Severity]
) -> None:
    error = UnreachableError(said)
    silent = replace(HEALTHY, no_libvirt=error, no_node_devices=error)
    (one,) = (one for rule in daemon_rules.RULES for one in rule(silent))
    assert ({one.name: one.severity}, said in one.why) == (found, True)


def test_python_without_its_binding_to_libvirt_is_known_by_the_errors_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cede.adapters.libvirt.connection", None)
    with raises(PermanentError, "libvirt-binding-missing") as caught:
        connect_libvirt(host_runtime())
    assert host(no_libvirt=caught.value) == {"libvirt-no-binding": FATAL}
    renamed = PermanentError("worded otherwise", name=caught.value.name)
    assert host(no_libvirt=renamed) == {"libvirt-no-binding": FATAL}


def test_what_others_than_root_may_not_see_is_not_called_broken() -> None:
    libvirt = UnreachableError("authentication unavailable: no polkit agent available")
    xenstore = UnreachableError("[Errno 13] Permission denied")
    assert host(is_root=False, no_libvirt=libvirt, no_xenstore=xenstore) == {"not-root": NOTE}
    assert host(is_root=True, no_xenstore=xenstore) == {"xenstore-down": FATAL}


@pytest.mark.parametrize(
    ("words", "blamed"),
    [
        ("iommu=0", "iommu=0"),
        ("iommu=off dom0_mem=1G", "iommu=off"),
        ("iommu=verbose,no", "iommu=verbose,no"),
        ("no-iommu", "no-iommu"),
        ("iommu=no iommu=on", ""),
        ("iommu=no-intremap", ""),
        ("iommu_off=1", ""),
        ("", ""),
    ],
)
def test_an_iommu_that_is_off_is_blamed_on_the_command_line_or_the_firmware(
    words: str, blamed: str
) -> None:
    for reported in (
        {"xen_command_line": words},
        {"xen_command_line": "", "xen_log": (f"(XEN) Command line: {words}",)},
    ):
        facts = replace(HEALTHY, virtualisation=("pv",), **reported)
        (found,) = xen_rules.iommu_off(facts)
        assert (blamed or "firmware") in found.remedy


# -- hide=


def reported(value: str = "", line: str = "") -> BootConfiguration:
    options = [("/etc/modprobe.d/pciback.conf", f"options xen-pciback {value}")] if value else []
    return replace(HEALTHY.boot, settings=settings(line, options))


def hidden(value: str, **changed: object) -> dict[str, Severity]:
    return host(boot=reported(value), **changed)


USED = replace(
    INVENTORY,
    devices=(
        CARD,
        replace(CARD, address=DISK, uses=(HostUse(guard="filesystem", chain=(str(DISK), "vda", "/")),)),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("hide=(0000:01:00.0)", {}),
        ("hide=(01:00.0)(0000:01:00.*)", {"hide-twice": NOTE}),
        ("hide=(01:*.*)", {}),
        ('hide="(01:00.0) (01:00.0)" permissive=1', {"hide-twice": NOTE}),
        ("hide=(01:00.0) (02:00.0)", {"hide-trailing": WARNING}),
        ("hide=", {}),
        ("permissive=1", {}),
        ("hide=01:00.0", {"hide-malformed": FATAL}),
        ("hide=(01:00.0),(02:00.0)", {"hide-malformed": FATAL}),
        ("hide=(0000:01:00.0)(01:00", {"hide-malformed": FATAL}),
        ("hide=(01:00.8)", {"hide-malformed": FATAL}),
        ("hide=(01:*.0)", {"hide-malformed": FATAL}),
        ("hide=(0f:00.0)", {"hide-no-device": WARNING}),
        ("hide=(03:00.0)", {"hide-guarded": FATAL}),
    ],
)
def test_hide_is_read_as_the_kernel_reads_it(value: str, found: dict[str, Severity]) -> None:
    loads = {"pciback-not-loaded": WARNING}
    inventory = replace(USED, pciback_loaded=False)
    assert hidden(value, inventory=inventory) == {**loads, **found}
    cured = diagnosis.fix_plan(
        diagnosis.of_host(
            replace(
                HEALTHY,
                inventory=inventory,
                boot=reported(value),
            )
        ),
        inventory,
    )
    assert bool(cured.changes) is ("hide-malformed" not in found), (
        "a load that must fail is not tried"
    )


def test_a_malformed_hide_of_a_module_that_is_loaded_counts_from_the_next_boot() -> None:
    assert hidden("hide=01:00.0") == {"hide-malformed": WARNING}


def test_the_bad_part_is_named_and_where_it_is() -> None:
    line = "root=/dev/vda xen-pciback.hide=(0000:01:00.0)(01:00 quiet"
    facts = replace(HEALTHY, inventory=WITHOUT, boot=reported(line=line))
    found = next(one for one in pciback_rules.hidden(facts) if one.name == "hide-malformed")
    assert "xen-pciback.hide=" in found.what
    assert '"(01:00"' in found.what


@pytest.mark.parametrize("name", ["xen-pciback", "xen_pciback", "pciback"])
def test_the_kernels_command_line_is_read_too_and_the_old_name_has_no_effect(name: str) -> None:
    found = host(boot=reported(line=f"quiet {name}.hide=(0f:00.0)"))
    ignored = {"hide-ignored": WARNING} if name == "pciback" else {}
    assert found == {**ignored, "hide-no-device": WARNING}


def test_the_kernels_own_error_counts_where_no_configuration_explains_it() -> None:
    said = 'xen_pciback: Error parsing pci_devs_to_hide at "(01:00"'
    found = host(kernel_log=(said,), inventory=WITHOUT)
    assert found == {"hide-refused": WARNING, "pciback-not-loaded": WARNING}
    assert host(kernel_log=(said,)) == {}


# -- devices


@pytest.mark.parametrize(
    ("line", "found"),
    recorded("kernel.tsv"),
)
def test_what_dom0s_kernel_logs_of_a_device_is_known(line: str, found: dict[str, Severity]) -> None:
    assert host(kernel_log=(line,)) == found


@pytest.mark.parametrize(
    ("line", "found"),
    recorded("xen.tsv"),
)
def test_what_xen_logs_of_reserved_memory_is_known(line: str, found: dict[str, Severity]) -> None:
    assert host(xen_log=(line,)) == found


def test_an_interrupt_that_was_lost_before_the_device_was_bound_again_is_of_the_past() -> None:
    lost = "e1000e 0000:01:00.0: xen map irq failed -19 for 32752 domain"
    bound = "pciback 0000:01:00.0: xen_pciback: seizing device"
    assert host(kernel_log=(lost, bound)) == {}
    assert host(kernel_log=(lost, bound, lost)) == {"quarantined": WARNING}
    assert host(kernel_log=(lost, bound.replace("01:00", "02:00"))) == {"quarantined": WARNING}


def test_a_device_that_is_on_pciback_again_is_not_called_quarantined() -> None:
    line = "e1000e 0000:01:00.0: xen map irq failed -19 for 32752 domain"
    taken = replace(INVENTORY, devices=(replace(CARD, driver="pciback"),))
    assert host(kernel_log=(line,), inventory=taken) == {}


@pytest.mark.parametrize(
    ("kind", "frontend", "found"),
    [
        (GuestKind.PV, 1, {"no-pcifront": WARNING}),
        (GuestKind.PV, None, {"no-pcifront": WARNING}),
        (GuestKind.PV, 4, {}),
        (GuestKind.HVM, 1, {}),
    ],
)
def test_a_pv_guest_that_doesnt_take_its_device_has_no_pcifront(
    kind: GuestKind, frontend: int | None, found: dict[str, Severity]
) -> None:
    given = BackendDevice(domid=1, address=NIC, index=0, backend_state=3, frontend_state=frontend)
    inventory = replace(INVENTORY, domains=(replace(PV, kind=kind),), backend=(given,))
    assert host(inventory=inventory) == found


# -- guests


def of_guest(file: str, domain: Domain) -> dict[str, Finding]:
    log = (CORPUS / file).read_text().splitlines()
    return {one.name: one for one in diagnosis.of_guest(log, domain)}


@pytest.mark.parametrize("file", ["guest-bar-in-ram.log", "guest-bar-in-ram-old.log"])
def test_a_bar_in_the_guests_memory_is_known_in_both_wordings(file: str) -> None:
    without = replace(PV, e820_host=False, features=("passthrough",))
    found = of_guest(file, without)["bar-unclaimed"]
    assert found.severity is FATAL
    assert "e820_host" in found.remedy
    assert found.actions == (SwitchOn(domain="pv1", features=("e820_host",)),)
    with_it = of_guest(file, PV)["bar-unclaimed"]
    assert (with_it.actions, "4 GiB" in with_it.remedy) == ((), True)


def test_a_healthy_guests_log_has_nothing_wrong() -> None:
    assert of_guest("guest-healthy.log", PV) == {}


@pytest.mark.parametrize(
    "line",
    [
        "e1000e 0000:00:00.0: xen map irq failed -22 for 32752 domain",
        "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out",
        "nvme nvme0: I/O 333 QID 1 timeout, completion polled",
        "e1000e 0000:00:00.0 eth0: Detected Hardware Unit Hang:",
        "  34:          0   xen-pirq    -msi-x     eth0-rx-0",
        "  34:   0   0   PCI-MSI 49152-edge      eth0",
    ],
)
def test_interrupts_that_dont_arrive_are_known(line: str) -> None:
    (found,) = guest_rules.no_interrupts([line], PV)
    assert (found.name, found.severity, found.subject) == ("no-interrupts", WARNING, "pv1")


def test_one_interrupt_that_was_counted_is_enough() -> None:
    log = ["  34:  0   xen-pirq  -msi-x  eth0-rx-0", "  35:  1   xen-pirq  -msi-x  eth0-tx-0"]
    assert list(guest_rules.no_interrupts(log, PV)) == []


def test_a_whole_log_without_pcifront_is_one_of_a_guest_without_it() -> None:
    log = ["[    0.000000] Linux version 6.1.0", "[    1.0] eth0 up"]
    assert [one.name for one in diagnosis.of_guest(log, PV)] == ["no-pcifront"]
    assert diagnosis.of_guest(log[1:], PV) == ()
    assert diagnosis.of_guest(log, replace(PV, kind=GuestKind.HVM)) == ()


# -- pairs


def pair(device: Device, domain: Domain, *others: Device) -> dict[str, Severity]:
    inventory = replace(INVENTORY, devices=(device, *others), domains=(domain,))
    place = Place(file="f", line=1, column=1)
    named = DevicePolicy(
        name="nic0", match=Match(address=device.address), expect=Expect(), place=place
    )
    wanted = Assignment(device="nic0", domain=domain.name, place=place)
    policy = Policy(devices=(named,), assignments=(wanted,), source="f")
    targets = resolve_targets(policy, inventory)
    found = diagnosis.of_pair(
        replace(HEALTHY, inventory=inventory), subject_of(wanted), domain, targets, plan(targets)
    )
    return {one.name: one.severity for one in found}


SIBLING = replace(CARD, address=Address(0, 1, 0, 1), reset=Reset.BUS)
OFF = {"domid": None}
SWAP = HostUse(guard="swap", chain=(str(NIC), "sda", "swap"))


@pytest.mark.parametrize(
    ("device", "domain", "found"),
    [
        ({}, {}, {"ready": NOTE}),
        ({"reset": Reset.NONE, "address": Address(0, 0, 0x10, 0)}, {}, {"no-reset": FATAL}),
        ({"reset": None}, {}, {"reset-unknown": FATAL}),
        ({"on_root_bus": True, "address": Address(0, 0x80, 0x14, 3)}, {}, {"root-bus": FATAL}),
        ({"node_device": False}, {}, {"not-listed": FATAL}),
        ({"uses": (SWAP,)}, {}, {"host-needs-it": FATAL}),
        ({}, {"kind": GuestKind.PVH}, {"pvh": FATAL}),
        ({}, {"kind": GuestKind.HVM, "memory": 2048, "current_memory": 1024}, {"memory-on-demand": FATAL}),
        ({}, {"kind": GuestKind.HVM, "memory": 2048, "current_memory": 2048}, {"ready": NOTE}),
        ({}, {"persistent": False}, {"transient": FATAL}),
        ({}, OFF, {"domain-off": WARNING}),
        ({}, {"passthrough": False}, {"passthrough-off": FATAL, "ready": NOTE}),
        ({}, {"passthrough": False, **OFF}, {"passthrough-off": WARNING, "domain-off": WARNING}),
        ({}, {"e820_host": False}, {"e820-host-off": WARNING, "ready": NOTE}),
        ({}, {"kind": GuestKind.HVM, "e820_host": False}, {"ready": NOTE}),
        ({"in_guest": True, "driver": "pciback"}, {}, {"owner-unknown": FATAL}),
        (
            {"reset": Reset.NONE, "address": Address(0, 0, 0x10, 0), "uses": (SWAP,)},
            {"passthrough": False},
            {"host-needs-it": FATAL, "no-reset": FATAL, "passthrough-off": FATAL},
        ),
    ],
)  # fmt: skip
def test_all_that_is_against_a_pair_is_reported(
    device: dict[str, object], domain: dict[str, object], found: dict[str, Severity]
) -> None:
    changed = replace(CARD, **device)  # type: ignore[arg-type]
    assert pair(changed, replace(PV, **domain)) == found  # type: ignore[arg-type]


def test_an_active_sibling_is_against_a_pair() -> None:
    alone = replace(CARD, reset=Reset.BUS)
    assert pair(alone, PV, SIBLING) == {"sibling-active": FATAL}
    assert pair(alone, PV, replace(SIBLING, driver="pciback")) == {"ready": NOTE}


def test_a_pair_hears_of_its_own_device_and_not_of_others() -> None:
    facts = replace(
        HEALTHY, inventory=replace(INVENTORY, devices=(CARD, SIBLING)),
        kernel_log=(f"x {SIBLING.address}: Refused to change power state, currently in D3",),
    )  # fmt: skip
    place = Place(file="f", line=1, column=1)
    named = DevicePolicy(name="n", match=Match(address=NIC), expect=Expect(), place=place)
    wanted = Assignment(device="n", domain="pv1", place=place)
    policy = Policy(devices=(named,), assignments=(wanted,), source="f")
    targets = resolve_targets(policy, facts.inventory)
    found = diagnosis.of_pair(facts, "s", PV, targets, plan(targets))
    assert [one.name for one in found] == ["ready"]
    assert {one.name for one in diagnosis.of_host(facts)} == {"no-power"}


# -- fixes


def test_a_fix_is_one_change_for_the_host_and_one_for_each_domain() -> None:
    def made(name: str, *actions: object) -> Finding:
        return Finding(
            name=name, severity=WARNING, subject=HOST, what="w", why="y", remedy="r", source="s",
            actions=actions,  # type: ignore[arg-type]
        )  # fmt: skip

    e820, allowed = (SwitchOn(domain="pv1", features=(f,)) for f in ("e820_host", "passthrough"))
    found = [
        made("a", e820),
        made("b", LoadPciback()),
        made("c"),
        made("d", LoadAtBoot(), LoadPciback()),
        made("e", allowed),
    ]
    planned = diagnosis.fix_plan(found, INVENTORY)
    assert [
        (change.subject, change.address, change.actions, "pv1" in change.action_required)
        for change in planned.changes
    ] == [
        ("fix this host", None, (LoadPciback(), LoadAtBoot()), False),
        (
            "fix pv1",
            None,
            (SwitchOn(domain="pv1", features=("passthrough", "e820_host")),),
            True,
        ),
    ]
    assert diagnosis.fix_plan([], INVENTORY).changes == ()
    off = replace(INVENTORY, domains=(replace(PV, domid=None),))
    (change,) = diagnosis.fix_plan([made("e", allowed)], off).changes
    assert change.action_required == "", "a domain that is off needs no restart"


# -- strangers' words

GUEST_RULES = {
    "bar-unclaimed",
    "rom-unclaimed",
    "no-interrupts",
    "no-pcifront",
    "duplicate-name",
    "msix-masked",
}
SIGNS = [
    *(CORPUS / "guest-bar-in-ram.log").read_text().splitlines(),
    *(CORPUS / "guest-bar-in-ram-old.log").read_text().splitlines(),
    *(CORPUS / "guest-rom-unclaimed.log").read_text().splitlines(),
    *(CORPUS / "guest-duplicate-name.log").read_text().splitlines(),
    *(line for file in ("kernel.tsv", "xen.tsv") for line, _ in recorded(file)),
    'xen_pciback: Error parsing pci_devs_to_hide at "(01:00"',
    "(XEN) I/O virtualisation disabled",
    "(XEN) [VT-D] It's disallowed to assign 0000:01:00.0 with shared RMRR at db7d7000 for d10.",
    "e1000e 0000:01:00.0: xen map irq failed -19 for 32752 domain",
    "pciback 0000:01:00.0: Driver tried to write to a read-only configuration space field",
    "no connection driver available for xen:///system",
]
words = st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "replace")))
line = st.one_of(
    words, st.tuples(words, st.sampled_from(SIGNS), words).map("".join),
    st.sampled_from(SIGNS).flatmap(lambda sign: st.integers(0, len(sign)).map(lambda n: sign[:n])),
)  # fmt: skip
logs = st.lists(line, max_size=6)


def shown(found: Finding) -> str:
    return found.subject + found.what + found.why + found.remedy


@given(logs)
def test_a_guests_words_find_something_of_that_guest_only_and_are_shown_harmlessly(
    log: list[str],
) -> None:
    for found in diagnosis.of_guest(log, PV):
        assert found.name in GUEST_RULES
        assert found.subject == "pv1"
        assert is_plain(shown(found))
        assert all(
            isinstance(action, SwitchOn) and action.domain == "pv1" for action in found.actions
        )


@given(logs, logs, words, words)
def test_no_words_of_any_log_or_setting_break_the_rules_or_reach_a_terminal_raw(
    kernel: list[str], hypervisor: list[str], command_line: str, option: str
) -> None:
    facts = replace(
        HEALTHY,
        kernel_log=tuple(kernel),
        xen_log=tuple(hypervisor),
        xen_command_line=command_line,
        virtualisation=(),
        no_libvirt=UnreachableError(option),
        no_xenstore=UnreachableError(option),
        hypervisor=option,
        boot=reported(f"hide={option}", command_line),
    )
    for found in diagnosis.of_host(facts):
        assert is_plain(shown(found)), shown(found)


@pytest.mark.parametrize("state", ["spinning", "blocked", "stopped"])
@pytest.mark.parametrize("daemon", ["libvirt", "xenstore"])
def test_a_daemon_that_is_silent_is_found_with_what_is_wrong_and_its_remedy(
    daemon: str, state: str
) -> None:
    error = UnreachableError("libvirtd (pid 7) spins", name=f"{daemon}-{state}", remedy="the cure")
    facts = replace(
        HEALTHY,
        no_libvirt=error if daemon == "libvirt" else None,
        no_xenstore=error if daemon == "xenstore" else None,
    )
    found = [one for one in diagnosis.of_host(facts) if one.name == f"{daemon}-{state}"]
    assert [one.remedy for one in found] == ["the cure"]
    assert diagnosis.fatal(found)


@given(st.text(max_size=3000))
def test_what_is_quoted_is_short_and_printable(said: str) -> None:
    assert len(quoted(said)) <= 200
    assert is_plain(quoted(said))


def test_every_rule_says_where_it_is_written() -> None:
    rules = (*diagnosis.EVERY, *guest_rules.RULES)
    assert all(rule.__doc__ for rule in rules)
