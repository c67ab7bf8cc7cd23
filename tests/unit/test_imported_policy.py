"""A policy proposed from what others wrote: nothing is lost in silence, and it is a policy that the planner takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cede.importing import xl_cfg
from cede.importing.imported_policy import (
    ImportedAssignment,
    ImportedDevice,
    ImportedPolicy,
    import_policy,
    policy_text,
)
from cede.importing.sources import DesiredDevice, SourceContent, of_domains, of_guest, of_hide
from cede.model import pciback_options
from cede.model.actions import Adopt
from cede.model.domain import Domain, GuestKind, Hostdev, Ownership
from cede.model.inventory import BackendDevice, Inventory
from cede.model.pci import Address, Device, Identity, Reset
from cede.model.policy import Policy, When
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy import policy_files
from cede.util.text import is_plain

NIC, GPU, SOUND = Address(0, 1, 0, 0), Address(0, 2, 0, 0), Address(0, 2, 0, 1)
FILE = """\
# a guest of xl's
name = "ace2x1"
type = "hvm"
pci_permissive = 1
pci = [ '01:00.0@5,permissive=0,msitranslate=1',
        '02:00.*,seize=1,rdm_policy=relaxed,power_mgmt=1',
        '0001:09:00.0',
        '07:00.*',
        'name=disk' ]
"""


def device(address: Address, code: str, **more: object) -> Device:
    identity = Identity(vendor="8086", device="10d3", class_code=code)
    return Device(address=address, identity=identity, **more)  # type: ignore[arg-type]


def host(*domains: Domain) -> Inventory:
    cards = (
        device(NIC, "020000", driver="e1000e", reset=Reset.FLR),
        device(GPU, "030000", driver="pciback", reset=Reset.FLR),
        device(SOUND, "040300", driver="pciback", reset=Reset.FLR),
    )
    return Inventory(devices=cards, domains=domains, pciback_loaded=True)


def guest(name: str, **more: object) -> Domain:
    return Domain(name=name, uuid=f"uuid-{name}", kind=GuestKind.PV, **more)  # type: ignore[arg-type]


def of_file(
    text: str = FILE, file: str = "ace2x1.cfg", on: Inventory | None = None
) -> SourceContent:
    return of_guest(xl_cfg.parse(text.encode(), file), on or host())


def proposed(
    *found: SourceContent, on: Inventory | None = None, beside: Policy | None = None
) -> ImportedPolicy:
    return import_policy(found, on or host(), beside or Policy())


def read(imported: ImportedPolicy) -> Policy:
    return policy_files.parse(policy_text(imported, ["somewhere"], {}), "import")


def test_an_xl_cfg_becomes_the_policy_that_is_recorded(golden: Callable[[str, str], None]) -> None:
    imported = proposed(of_file())
    text = policy_text(imported, ["ace2x1.cfg"], {"nic-01-00-0": "Intel 82574L"})
    golden("import_xl.yaml", text)
    policy = policy_files.parse(text, "import")
    assert [device.name for device in policy.devices] == [
        "nic-01-00-0", "gpu-02-00-0", "audio-02-00-1", "pci-0001-09-00-0",
    ]  # fmt: skip
    assert [(a.domain, a.permissive) for a in policy.assignments] == [
        ("ace2x1", False), ("ace2x1", True), ("ace2x1", True), ("ace2x1", True),
    ]  # fmt: skip


def test_hostdevs_and_hidden_devices_become_the_policy_that_is_recorded(
    golden: Callable[[str, str], None],
) -> None:
    on = host(
        guest("pv1", domid=1, live=(Hostdev(address=NIC, managed=True, write_filtering=False),),
              config=(Hostdev(address=NIC, managed=True, write_filtering=False),)),
        guest("pv2", config=(Hostdev(address=NIC), Hostdev(address=GPU))),
    )  # fmt: skip
    imported = proposed(
        of_domains(on), of_hide(pciback_options.read("(02:00.1)(oops)", "a file"), on), on=on
    )
    golden("import_domains.yaml", policy_text(imported, ["libvirt's domains", "a file"], {}))


def test_what_is_imported_is_adopted_and_nothing_else_is_planned() -> None:
    on = host(
        guest("pv1", domid=1, live=(Hostdev(address=NIC),), config=(Hostdev(address=NIC),)),
        guest("pv2", config=(Hostdev(address=GPU, write_filtering=False),)),
        guest("pv3", domid=3, config=(Hostdev(address=SOUND),)),
    )
    on = replace(on, backend=(BackendDevice(domid=1, address=NIC, index=0, state=3),))
    planned = plan(resolve_targets(read(proposed(of_domains(on), on=on)), on))
    assert not planned.refusals
    assert [(type(action), action.domain) for action in planned.actions if isinstance(action, Adopt)] == [
        (Adopt, "pv1"), (Adopt, "pv2"), (Adopt, "pv3"),
    ]  # fmt: skip
    assert len(planned.actions) == 3
    assert not any(change.action_required for change in planned.changes)


def test_what_is_cedes_already_is_left_out() -> None:
    mark = Ownership(name="nic0", address=NIC, policy="policy.yaml")
    ours = Hostdev(address=NIC, alias="ua-cede-nic0")
    found = of_domains(host(guest("pv1", config=(ours,), ownership=(mark,))))
    assert found.wanted == ()
    (note,) = found.notes
    assert "0000:01:00.0" in note
    assert "pv1" in note


def test_only_the_domains_that_were_named_count() -> None:
    on = host(
        guest("a", config=(Hostdev(address=NIC),)), guest("b", config=(Hostdev(address=GPU),))
    )
    assert [w.domain for w in of_domains(on, ["uuid-b"]).wanted] == ["b"]


def test_a_file_and_the_domain_that_it_is_of_speak_of_one_assignment() -> None:
    on = host(guest("ace2x1", domid=1, config=(Hostdev(address=NIC),)))
    file = of_file("name='ace2x1'\npci=['01:00.0,permissive=1']\n", on=on)
    (assignment,) = proposed(file, of_domains(on), on=on).assignments
    assert (assignment.adopt, assignment.permissive, assignment.when) == (
        True, False, When.NEXT_START,
    )  # fmt: skip
    assert len(assignment.origins) == 2


def test_a_second_domain_that_wants_a_device_is_reported() -> None:
    one, other = (of_file(f"name='{name}'\npci=['01:00.0']\n", f"{name}.cfg") for name in "ab")
    imported = proposed(one, other)
    assert [a.domain for a in imported.assignments] == ["a"]
    assert "b.cfg:2:6" in imported.devices[0].notes[0]


def test_what_the_policy_has_already_is_left_out_and_a_conflict_is_said(
    golden: Callable[[str, str], None],
) -> None:
    beside = policy_files.parse(
        "version: 1\ndevices:\n"
        "  nic-01-00-0: {match: {class: '02'}}\n"
        "  gone: {match: {address: '09:00.0'}}\n"
        "  nic-02-00-0: {match: {vendor: 'ffff'}}\n"
        "assignments:\n  - {device: nic-01-00-0, domain: a}\n",
        "policy.yaml",
    )
    wanted = "name='b'\npci=['01:00.0', '09:00.0', '02:00.0']\n"
    imported = proposed(of_file(wanted), of_file("name='a'\npci=['01:00.0']\n"), beside=beside)
    assert [device.name for device in imported.devices] == ["gpu-02-00-0"]
    for note, (address, place) in zip(
        imported.notes,
        [(NIC, "policy.yaml:3:3"), (NIC, "policy.yaml:3:3"), ("0000:09:00.0", "policy.yaml:4:3")],
        strict=True,
    ):
        assert str(address) in note
        assert place in note
    golden("import_beside.yaml", policy_text(imported, ["two files"], {}))


def test_a_domain_whose_name_no_policy_can_have_is_imported_by_its_uuid() -> None:
    there = (Hostdev(address=NIC),)
    hidden = replace(guest("pv\ufe0f1", live=there, config=there), uuid="uuid-of-pv1")
    imported = proposed(of_domains(host(hidden), []), on=host(hidden))
    assert [a.domain for a in imported.assignments] == [hidden.uuid]
    assert [a.domain for a in read(imported).assignments] == [hidden.uuid]


def test_a_name_that_is_taken_gets_a_number() -> None:
    beside = policy_files.parse(
        "version: 1\ndevices: {nic-01-00-0: {match: {vendor: 'ffff'}}}\n", "policy.yaml"
    )
    (device,) = proposed(
        of_hide(pciback_options.read("(01:00.0)", "here"), host()), beside=beside
    ).devices
    assert device.name == "nic-01-00-0-2"


def test_a_device_that_this_host_lacks_is_said_and_expected_to_be_nothing() -> None:
    imported = proposed(of_hide(pciback_options.read("(08:00.0)", "here"), host()))
    (device,) = imported.devices
    assert device.identity is None
    assert read(imported).devices[0].expect.vendor is None
    assert read(imported).assignments == ()


def test_nothing_found_is_a_policy_that_wants_nothing() -> None:
    policy = read(ImportedPolicy())
    assert (policy.devices, policy.assignments) == ((), ())


ADDRESSES = st.builds(Address, st.just(0), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1))
TEXTS = st.text(min_size=1, max_size=40) | st.sampled_from(
    ["true", "no", "1", "null", "~", "a: b", "# x", "\n- x: y", "'", '"', "\x1b[2J", "\u2028", "é"]
)


@given(
    text=TEXTS,
    domain=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).filter(is_plain)
    | st.sampled_from(["true", "no", "1", "null", "~", "a: b", "- x", "{a}", "'", '"', "# x", "é"]),
    notes=st.lists(TEXTS, max_size=3).map(tuple),
)
def test_what_foreign_files_say_can_not_leave_its_quotes_or_its_comment(
    text: str, domain: str, notes: tuple[str, ...]
) -> None:
    imported = ImportedPolicy(
        devices=(ImportedDevice(name="nic", address=NIC, origins=(text,), notes=notes),),
        assignments=(ImportedAssignment(device="nic", domain=domain, origins=(text,)),),
        notes=notes,
    )
    written = policy_text(imported, [text], {"nic": text})
    assert all(line.isprintable() for line in written.split("\n"))
    policy = policy_files.parse(written, "import")
    assert [(a.device, a.domain) for a in policy.assignments] == [("nic", domain)]
    assert len(policy.devices) == 1


@given(
    st.lists(
        st.builds(
            DesiredDevice,
            address=ADDRESSES,
            origin=TEXTS,
            domain=st.none() | st.sampled_from(["pv1", "pv2", "other"]),
            permissive=st.booleans(),
            adopt=st.booleans(),
            when=st.sampled_from(When),
            notes=st.lists(TEXTS, max_size=2).map(tuple),
        ),
        max_size=8,
    )
)
def test_every_target_is_in_the_policy_or_in_a_note(targets: list[DesiredDevice]) -> None:
    on = host(guest("pv1", domid=1), guest("pv2"))
    imported = proposed(SourceContent(wanted=tuple(targets)), on=on)
    policy = read(imported)
    given_to = {(policy.device(a.device).match.address, a.domain) for a in policy.assignments}  # type: ignore[union-attr]
    by_address = {device.address: device for device in imported.devices}
    assert len(by_address) == len(imported.devices) == len({w.address for w in targets})
    for target in targets:
        said = " ".join(by_address[target.address].notes)
        assert all(note in said for note in target.notes)
        if target.domain is not None:
            assert (
                target.address,
                target.domain,
            ) in given_to or f"{target.domain} " in said
