"""Domain XML: read strictly, edited without touching what is another tool's.

In tests/golden, pv_* and hvm_* are what libvirt 11.3 shows of the lab's guests; `crowded` is made of all that may be
in a domain and isn't cede's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from cede.domain_xml import document as domain_xml_document
from cede.domain_xml import sources
from cede.errors import PermanentError
from cede.model.domain import FEATURES, GuestKind, Hostdev
from cede.model.pci import Address
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent.parent / "golden"
SHOWN = ("pv_live", "pv_inactive", "hvm_live", "hvm_inactive", "crowded")
NIC = Address(0, 1, 0, 0)
NEW = Address(0, 3, 0, 0)
BARE = "<domain type='xen'><name>g</name><uuid>u</uuid>{}</domain>"
ADDRESSES = st.builds(
    Address,
    segment=st.integers(0, 0xFFFF),
    bus=st.integers(0, 0xFF),
    slot=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)
DOCUMENTS = st.sampled_from(
    [
        *((GOLDEN / f"{name}.xml").read_text(encoding="utf-8") for name in SHOWN),
        BARE.format("<devices/>"),
        BARE.format("<devices>\n  </devices>"),
        BARE.format("<devices><emulator>/q</emulator></devices>"),
        BARE.format("<devices><emulator>/q</emulator><!-- last --></devices>"),
    ]
)


def shown(name: str) -> str:
    return (GOLDEN / f"{name}.xml").read_text(encoding="utf-8")


def hostdev(attributes: str, *, more: str = "") -> str:
    return BARE.format(
        "<devices><hostdev mode='subsystem' type='pci' managed='no'>"
        f"<source><address {attributes}/></source>{more}</hostdev></devices>"
    )


@pytest.mark.parametrize("name", SHOWN)
def test_a_hostdev_is_added_as_recorded(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.with.xml", domain_xml_document.with_hostdev(shown(name), NEW, "ua-cede-nic0"))


def test_the_hostdev_that_is_attached_is_the_recorded_one(
    golden: Callable[[str, str], None],
) -> None:
    golden(
        "new_hostdev.xml",
        domain_xml_document.new_hostdev(Address(0xABCD, 0xEF, 0x1F, 7), "ua-cede-x") + "\n",
    )


@given(DOCUMENTS, ADDRESSES)
def test_adding_changes_no_byte_around_what_is_added(document: str, address: Address) -> None:
    if any(h.address == address for h in domain_xml_document.hostdevs(document)):
        return
    new = domain_xml_document.new_hostdev(address, "ua-cede-x")
    added = domain_xml_document.with_hostdev(document, address, "ua-cede-x")
    assert added in {
        *_with(document, f"\n    {new}"),
        document.replace("<devices/>", f"<devices>{new}</devices>"),
        document.replace("<devices>\n  </devices>", f"<devices>{new}\n  </devices>"),
    } - {document}


def _with(document: str, new: str) -> list[str]:
    """With the text at any place where a tag or a comment ends."""
    ends = [at + 1 for at, character in enumerate(document) if character == ">"]
    return [document[:at] + new + document[at:] for at in ends]


@st.composite
def written(draw: st.DrawFn) -> str:
    """A domain's XML as people write it."""
    blank = st.sampled_from(["", " ", "\n", "\n  ", "\r\n\t", "\n\n    "])
    other = st.sampled_from(
        ["", "<!-- </a> ' > -->", "<![CDATA[ <devices/> ]]>", "<?p a='>'?>", "&lt;/>", "ß"]
    )

    def between() -> str:
        return draw(blank) + draw(other) * draw(st.booleans()) + draw(blank)

    def element(tag: str, *children: str, attributes: str = "") -> str:
        some = [child for child in children if child and draw(st.booleans())]
        attributes += draw(blank)
        if not some and draw(st.booleans()):
            return f"<{tag}{attributes}/>"
        inside = draw(st.sampled_from(["", "\n  "])) if not some else between()
        return f"<{tag}{attributes}>{inside}{''.join(one + between() for one in some)}</{tag}{draw(blank)}>"

    state = draw(st.sampled_from([" state='on'", ' state = "off"', " x='>' state='off'"]))
    pci = draw(ADDRESSES)
    theirs = (
        hostdev(f'bus="{pci.bus}" slot="{pci.slot}"').split("<devices>")[1].split("</devices>")[0]
    )
    foreign = "<o:box xmlns:o='urn:o'/>"
    domain = "".join(
        [
            f"<domain{draw(blank)} type='xen'>{between()}<name>g</name>{between()}<uuid>u</uuid>",
            between(),
            element("metadata", foreign) * draw(st.booleans()),
            "<os/>" * draw(st.booleans()),
            element("features", element("xen", element("passthrough", attributes=state)), "<acpi/>")
            * draw(st.booleans()),
            between(),
            element("devices", "<emulator>/q</emulator>", theirs, "<input type='x'/>")
            * draw(st.booleans()),
            f"{between()}</domain>",
        ]
    )
    declared = draw(
        st.sampled_from(["", "<?xml version='1.0' encoding='utf-16'?>\n", "<!-- o -->\n"])
    )
    entity = draw(st.sampled_from(["", "<!DOCTYPE domain [<!ENTITY e '<devices/>'>]>\n"]))
    return f"{declared}{entity}{domain}{draw(st.sampled_from(['', chr(10), '<!-- end -->']))}"


@given(
    DOCUMENTS | written(),
    st.lists(ADDRESSES, unique=True, max_size=4),
    st.randoms(use_true_random=False),
)
def test_what_was_added_is_removed_in_any_order_without_a_trace(
    document: str, addresses: list[Address], order: Random
) -> None:
    found = domain_xml_document.domain(None, document)
    before = {h.address for h in found.config}
    addresses = [address for address in addresses if address not in before]
    missing = [name for name in FEATURES if name not in found.features]
    edited = domain_xml_document.with_features(document, missing)
    for address in addresses:
        edited = domain_xml_document.with_hostdev(edited, address, "ua-cede-x", policy="p")
    after = domain_xml_document.domain(None, edited)
    assert {h.address for h in after.config} == before | set(addresses)
    assert [(o.address, o.policy) for o in after.ownership] == [(at, "p") for at in addresses]
    assert set(after.features) == set(FEATURES)
    order.shuffle(addresses)
    for address in addresses:
        edited = domain_xml_document.without_hostdev(edited, address)
    assert domain_xml_document.without_features(edited, missing, off=found.features_off) == document


@pytest.mark.parametrize("name", SHOWN)
def test_an_edit_of_the_text_says_the_same_as_one_of_the_tree(name: str) -> None:
    tree = etree.fromstring(shown(name))
    devices = tree.find("./devices")
    assert devices is not None
    last = devices.findall("./hostdev[@type='pci']")[-1:]
    at = devices.index(last[0]) + 1 if last else len(devices)
    devices.insert(at, etree.fromstring(domain_xml_document.new_hostdev(NEW, "ua-cede-x")))
    edited = domain_xml_document.with_hostdev(shown(name), NEW, "ua-cede-x")
    assert etree.canonicalize(edited, strip_text=True) == etree.canonicalize(
        etree.tostring(tree, encoding="unicode"), strip_text=True
    )


def test_removing_takes_the_element_with_its_line_and_nothing_else() -> None:
    before = shown("crowded")
    after = domain_xml_document.without_hostdev(before, Address(0, 0, 0x11, 0))
    lines = before.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "type='pci' managed='yes'" in line)
    assert "</hostdev>" in lines[first + 6]
    assert after == "".join(lines[:first] + lines[first + 7 :])


def test_adding_what_is_there_changes_nothing_at_all() -> None:
    text = shown("crowded")
    assert domain_xml_document.with_hostdev(text, Address(0, 0, 0x11, 0), "ua-cede-x") is text


def test_removing_what_is_not_there_changes_nothing_at_all() -> None:
    text = shown("crowded")
    assert domain_xml_document.without_hostdev(text, NIC) is text


def test_a_vnc_password_and_a_cdata_section_and_a_comment_survive_both_edits() -> None:
    for edited in (
        domain_xml_document.with_hostdev(shown("crowded"), NEW, "ua-cede-x"),
        domain_xml_document.without_hostdev(shown("crowded"), Address(0, 2, 0, 1)),
    ):
        assert "passwd='tops3cret'" in edited
        assert "<!-- what a later libvirt may know -->" in edited
        assert "a < b" in edited
        assert "Größe" in edited


def test_a_comment_around_the_domain_stays() -> None:
    text = "<!-- ours -->\n<domain><devices/></domain>\n<!-- end -->"
    edited = domain_xml_document.with_hostdev(text, NIC, "ua-cede-x")
    assert edited.startswith("<!-- ours -->\n<domain>")
    assert edited.endswith("</domain>\n<!-- end -->")


def test_a_domain_without_devices_gets_them() -> None:
    edited = domain_xml_document.with_hostdev(BARE.format(""), NIC, "ua-cede-x")
    assert [h.address for h in domain_xml_document.hostdevs(edited)] == [NIC]


def test_every_hostdev_is_read_with_whose_it_is_and_how_it_is_filtered() -> None:
    assert domain_xml_document.hostdevs(shown("crowded")) == (
        Hostdev(address=Address(0, 0, 0x11, 0), managed=True, write_filtering=False),
        Hostdev(address=Address(0, 2, 0, 1), alias="ua-cede-nic1"),
    )
    assert [h.owned for h in domain_xml_document.hostdevs(shown("crowded"))] == [False, True]


@pytest.mark.parametrize(
    ("attributes", "resolve_assignment"),
    [
        ("domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'", Address(0, 0x0A, 0x1F, 7)),
        ("domain='0' bus='10' slot='31' function='7'", Address(0, 0x0A, 0x1F, 7)),
        ("domain='0xABCD' bus='0XEF' slot='0x1E' function='3'", Address(0xABCD, 0xEF, 0x1E, 3)),
        ("bus='1'", NIC),
        ("", Address(0, 0, 0, 0)),
        ("domain='0' bus='1' slot='0' function='0' multifunction='on'", NIC),
    ],
)
def test_an_address_is_read_in_hex_and_in_decimal(
    attributes: str, resolve_assignment: Address
) -> None:
    assert [h.address for h in domain_xml_document.hostdevs(hostdev(attributes))] == [
        resolve_assignment
    ]


@pytest.mark.parametrize(
    "attributes",
    ["bus='0x100'", "slot='32'", "function='8'", "bus='-1'", "bus=''", "bus='one'", "bus='1e2'"],
)
def test_an_address_that_no_device_has_is_no_hostdev_of_ours(attributes: str) -> None:
    assert domain_xml_document.hostdevs(hostdev(attributes)) == ()


def test_a_hostdev_without_an_address_is_left_alone() -> None:
    text = BARE.format("<devices><hostdev mode='subsystem' type='pci'/></devices>")
    assert domain_xml_document.hostdevs(text) == ()
    assert domain_xml_document.without_hostdev(text, Address(0, 0, 0, 0)) is text


def test_a_network_interface_of_type_hostdev_is_a_pci_hostdev_and_a_usb_hostdev_is_none() -> None:
    text = BARE.format(
        "<devices><hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/>"
        "</source></hostdev><hostdev mode='capabilities' type='storage'/><interface type='hostdev'>"
        "<source><address type='pci' bus='1'/></source></interface></devices>"
    )
    assert domain_xml_document.hostdevs(text) == (Hostdev(address=Address(0, 1, 0, 0)),)


def test_a_live_detach_gets_the_element_whole_and_without_what_follows() -> None:
    found = domain_xml_document.hostdev_as_shown(shown("pv_live"), NIC)
    assert found is not None
    assert found.endswith("</hostdev>")
    tree = etree.fromstring(found)
    assert [child.tag for child in tree] == ["driver", "source", "alias"]
    assert domain_xml_document.hostdev_as_shown(shown("pv_live"), NEW) is None


@pytest.mark.parametrize(
    ("os", "kind"),
    [
        ("<os><type machine='xenpv'>linux</type></os>", GuestKind.PV),
        ("<os><type>linux</type></os>", GuestKind.PV),
        ("<os><type machine='xenpvh'>xenpvh</type></os>", GuestKind.PVH),
        ("<os><type machine='xenfv'>hvm</type></os>", GuestKind.HVM),
        ("<os><type>hvm</type></os>", GuestKind.HVM),
    ],
)
def test_how_xen_runs_a_guest_is_reported_by_its_machine(os: str, kind: GuestKind) -> None:
    assert domain_xml_document.domain(None, BARE.format(os)).kind is kind


PCI = "<devices><hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev></devices>"


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ("", False),
        ("<features><xen><passthrough state='on'/></xen></features>", True),
        ("<features><xen><passthrough state='on' mode='share_pt'/></xen></features>", True),
        ("<features><xen><passthrough state='off'/></xen></features>", False),
        ("<features><xen><e820_host state='on'/></xen></features>", False),
        (PCI, True),
        (PCI + "<features><xen><passthrough state='off'/></xen></features>", False),
    ],
)
def test_passthrough_is_what_the_domain_was_started_with(body: str, *, allowed: bool) -> None:
    assert domain_xml_document.domain(BARE.format(body), None).passthrough is allowed
    assert domain_xml_document.domain(BARE.format(body), BARE.format(PCI)).passthrough is allowed


def test_a_running_domain_has_the_id_and_the_hostdevs_of_both_its_xmls() -> None:
    found = domain_xml_document.domain(shown("pv_live"), shown("crowded"), paused=True)
    assert (found.name, found.domid, found.paused, found.persistent) == ("pv1", 1, True, True)
    assert found.uuid == "abd59c6f-a49d-4758-a1c0-93fdd309ef4a"
    assert [str(h.address) for h in found.live] == ["0000:01:00.0"]
    assert [str(h.address) for h in found.config] == ["0000:00:11.0", "0000:02:00.1"]


def test_a_domain_that_is_off_has_no_id_and_a_transient_one_no_config() -> None:
    off = domain_xml_document.domain(None, shown("pv_inactive"))
    assert (off.domid, off.running, off.live) == (None, False, ())
    assert domain_xml_document.domain(None, shown("pv_live")).domid is None
    transient = domain_xml_document.domain(shown("pv_live"), None)
    assert (transient.domid, transient.persistent, transient.config) == (1, False, ())


@pytest.mark.parametrize("text", ["", "no xml", "<domain>", "<domain/><domain/>", "\0"])
def test_what_is_no_xml_is_an_error_that_says_so(text: str) -> None:
    with raises(PermanentError, "unreadable-xml"):
        domain_xml_document.hostdevs(text)


def test_a_domain_without_any_xml_is_an_error() -> None:
    with raises(PermanentError, "no-xml"):
        domain_xml_document.domain(None, None)


def test_no_entity_is_resolved_and_no_external_reference_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (tmp_path / "fetched.dtd").write_text("<!ENTITY stolen 's3cret'>")
    text = (
        f'<!DOCTYPE domain SYSTEM "{tmp_path}/fetched.dtd" ['
        f'<!ENTITY file SYSTEM "file://{secret}"><!ENTITY local "resolved">]>'
        "<domain><name>&file;&local;</name><uuid>u</uuid><devices/></domain>"
    )
    assert domain_xml_document.domain(None, text).name == ""
    edited = domain_xml_document.with_hostdev(text, NIC, "ua-cede-x")
    assert "<name>&file;&local;</name>" in edited
    assert "s3cret" not in edited


def test_entities_that_grow_without_end_are_not_expanded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    text = (
        f'<!DOCTYPE domain [<!ENTITY l0 "ha">{laughs}]><domain><name>&l11;</name><uuid/></domain>'
    )
    with suppress(PermanentError):  # some versions of libxml2 refuse it, some leave the reference
        assert domain_xml_document.domain(None, text).name == ""


@pytest.mark.parametrize(
    ("features", "left"),
    [
        (
            ["passthrough"],
            "<features>\n  <acpi/>\n  <xen>\n    <e820_host state='on'/>\n  </xen>\n </features>",
        ),
        (["passthrough", "e820_host"], "<features>\n  <acpi/>\n </features>"),
    ],
)
def test_features_that_are_switched_off_leave_no_trace(features: list[str], left: str) -> None:
    whole = (
        "<features>\n  <acpi/>\n  <xen>\n    <passthrough state='on'/>\n    <e820_host state='on'/>\n  </xen>\n"
        " </features>"
    )
    assert domain_xml_document.without_features(BARE.format(whole), features) == BARE.format(left)
    assert domain_xml_document.without_features(BARE.format(left), ["passthrough"]) == BARE.format(
        left
    )


@pytest.mark.parametrize(
    ("kind", "current", "on_demand"),
    [("xenfv", 524288, True), ("xenfv", 1048576, False), ("xenpv", 524288, False)],
)
def test_a_domain_with_less_memory_at_its_start_is_populated_on_demand_unless_it_is_pv(
    kind: str, current: int, on_demand: bool
) -> None:
    text = (
        f"<domain><name>a</name><uuid>u</uuid><os><type machine='{kind}'>hvm</type></os>"
        f"<memory unit='KiB'>1048576</memory><currentMemory unit='KiB'>{current}</currentMemory></domain>"
    )
    found = domain_xml_document.domain(None, text)
    assert (found.memory, found.current_memory) == (1048576, current)
    assert found.populated_on_demand is on_demand


def test_memory_that_is_no_number_is_unknown() -> None:
    text = "<domain><name>a</name><uuid>u</uuid><os><type>hvm</type></os><memory>\u0661</memory></domain>"
    assert domain_xml_document.domain(None, text).memory == 0


def test_every_disk_and_interface_of_dom0_that_a_domain_lists_is_read() -> None:
    live = BARE.format(
        "<devices><disk type='block'><source dev='/dev/vg/a'/><backingStore type='file'>"
        "<source file='/srv/base.img'/></backingStore></disk>"
        "<disk type='volume'><source pool='fast' volume='b'/></disk>"
        "<interface type='network'><source network='default' bridge='virbr0'/></interface>"
        "<interface type='direct'><source dev='eth1'/></interface></devices>"
    )
    config = BARE.format("<devices><disk type='file'><source file='/dev/sdb'/></disk></devices>")
    found = domain_xml_document.domain(live, config)
    assert found.host_disks == ("/dev/vg/a", "/srv/base.img", "/dev/sdb")
    assert found.unknown_volumes == ("fast/b",)
    assert found.host_interfaces == ("virbr0", "eth1")


def test_a_storage_pool_is_its_devices_and_its_folder() -> None:
    pool = (
        "<pool type='fs'><name>fast</name><source><device path='/dev/sdb1'/><device path='/dev/sdc1'/>"
        "</source><target><path>/srv/fast</path></target></pool>"
    )
    assert sources.pool_paths(pool) == ("/dev/sdb1", "/dev/sdc1", "/srv/fast")
    assert sources.pool_paths("<pool/>") == ()
