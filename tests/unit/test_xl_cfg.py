"""xl.cfg files: what xl reads is read, what xl refuses is reported, and nothing is ever run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import FailureKind, UsageError
from cede.importing import inexpressible, xl_cfg
from cede.importing.xl_cfg import PciSpec, read_spec
from cede.model.domain import GuestKind
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Callable

NIC = Address(0, 1, 0, 0)


def guest(text: str) -> xl_cfg.Guest:
    return xl_cfg.parse(text.encode(), "g.cfg")


def specs(pci: str, more: str = "") -> list[PciSpec]:
    return [device.spec for device in guest(f"name = 'g'\n{more}\npci = {pci}\n").devices]


def usage_error(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        guest(text)
    assert raised.value.kind is FailureKind.USAGE
    assert all(line.isprintable() for line in raised.value.message.splitlines())
    return raised.value


def names_and_places(text: str) -> list[tuple[str, str]]:
    return [(d.name, d.place.removeprefix("g.cfg:")) for d in usage_error(text).diagnostics]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("01:00.0", PciSpec(address=NIC)),
        ("0000:01:00.0", PciSpec(address=NIC)),
        ("0001:0A:1f.7", PciSpec(address=Address(1, 10, 31, 7))),
        ("1:0.0", PciSpec(address=NIC)),
        ("01:00.0,", PciSpec(address=NIC)),
        ("01:00.*", PciSpec(address=NIC, every_function=True)),
        ("01:00.0@5", PciSpec(address=NIC, vslot=5)),
        ("01:00.0@1f,seize=1", PciSpec(address=NIC, vslot=31, take_from_driver=True)),
        ("01:00.*@10", PciSpec(address=NIC, every_function=True, vslot=16)),
        ("01:00.0,vslot=5", PciSpec(address=NIC, vslot=5)),
        ("bdf=01:00.0", PciSpec(address=NIC)),
        ("bdf=01:00.*,vslot=20,seize=0", None),
        ("bdf=01:00.0,vslot=10,seize=0", PciSpec(address=NIC, vslot=16, take_from_driver=False)),
        ("seize=1,bdf=01:00.0", PciSpec(address=NIC, take_from_driver=True)),
        ("name=nic0", PciSpec(name="nic0")),
        ("name=nic0,permissive=1", PciSpec(name="nic0", permissive=True)),
        ("01:00.0,permissive=1", PciSpec(address=NIC, permissive=True)),
        ("01:00.0,permissive=0", PciSpec(address=NIC, permissive=False)),
        ("01:00.0,permissive=", PciSpec(address=NIC, permissive=False)),
        ("01:00.0,permissive=yes", PciSpec(address=NIC, permissive=False)),
        ("01:00.0,msitranslate=1", PciSpec(address=NIC, msitranslate=True)),
        ("01:00.0,power_mgmt=1", PciSpec(address=NIC, power_mgmt=True)),
        ("01:00.0,rdm_policy=strict", PciSpec(address=NIC, rdm_policy="strict")),
        ("01:00.0,rdm_policy=relaxed", PciSpec(address=NIC, rdm_policy="relaxed")),
        ("", None),
        ("permissive=1", None),
        ("01:00.0,name=nic0", None),
        ("01:00.0,permissive", None),
        ("01:00.0, permissive=1", None),
        ("01:00.0,Permissive=1", None),
        ("01:00.0,rdm_policy=lax", None),
        ("01:00.0,vslot=32", None),
        ("01:00.0@", None),
        ("01:00.0-3", None),
        ("01:00.8", None),
        ("01:20.0", None),
        ("100:00.0", None),
        ("01:00", None),
        ("01:00.0x", None),
        ("0x1:00.0", None),
        ("bdf=01:00.0x", None),
        ("1:2:3:4.0", None),
        ("pci_0000_01_00_0", None),
    ],
)
def test_every_spelling_of_a_pci_device_is_read_as_xl_does(text: str, spec: PciSpec | None) -> None:
    if spec is None:
        with pytest.raises(ValueError, match=r"."):
            read_spec(text)
    else:
        assert read_spec(text) == spec


@pytest.mark.parametrize(
    ("pci", "addresses"),
    [
        ("['01:00.0']", 1),
        ('["01:00.0"]', 1),
        ("['01:00.0', \"01:00.0\",]", 2),
        ("[\n  '01:00.0', # the first\n\n  '01:00.0'\n]", 2),
        ("[ ]", 0),
        ("[\n]", 0),
        ("['01:00.0'];", 1),
        ("['\\\"' ]", None),
        ("['01:00.0'] ['01:00.0']", None),
        ("['01:00.0' '01:00.0']", None),
        ("['01:00.0'", None),
        ("'01:00.0' ]", None),
        ("[['01:00.0']]", None),
        ("['01:00.0\n']", None),
        ("[,]", None),
        ("\n['01:00.0']", None),
        ("[ \\\n '01:00.0' ]", None),
        ("'01:00.0", None),
        ("str('01:00.0')", None),
    ],
)
def test_lists_are_read_by_xls_own_grammar(pci: str, addresses: int | None) -> None:
    if addresses is None:
        usage_error(f"name = 'g'\npci = {pci}\n")
    else:
        assert [spec.address for spec in specs(pci)] == [NIC] * addresses


def test_quotes_hold_comments_and_signs_and_escapes() -> None:
    assert guest("name = 'a#b;[]= \\'\\\"\\\\\\t'\n").name == "a#b;[]= '\"\\\t"
    assert guest('name = "it\'s"\n').name == "it's"


def test_the_last_value_counts_and_more_is_added_to_it() -> None:
    text = "name='a'; name='g'\npci=['02:00.0']\npci=['01:00.0']\npci+=['01:00.1']\nname+='2'\n"
    found = guest(text)
    assert found.name == "g2"
    assert [str(device.spec.address) for device in found.devices] == [
        "0000:01:00.0",
        "0000:01:00.1",
    ]
    assert [str(device.place) for device in found.devices] == ["g.cfg:3:6", "g.cfg:4:7"]


def test_what_is_wanted_of_all_devices_counts_unless_one_says_otherwise() -> None:
    more = "pci_permissive=1\npci_msitranslate='1'\npci_seize=0\npci_power_mgmt=1\n"
    first, second = specs(
        "['01:00.0', '01:00.0,permissive=0,rdm_policy=strict']",
        more + 'rdm = "strategy=host,policy=relaxed"',
    )
    assert first == PciSpec(
        address=NIC, permissive=True, msitranslate=True, take_from_driver=False, power_mgmt=True,
        rdm_policy="relaxed",
    )  # fmt: skip
    assert (second.permissive, second.rdm_policy) == (False, "strict")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", GuestKind.PV),
        ("type = 'hvm'", GuestKind.HVM),
        ("type = 'pv'", GuestKind.PV),
        ("builder = 'hvm'", GuestKind.HVM),
        ("builder = 'generic'", GuestKind.PV),
        ("builder = 'generic'\ntype = 'pvh'", GuestKind.PVH),
    ],
)
def test_the_kind_of_a_guest_is_said_by_type_or_builder(text: str, kind: GuestKind) -> None:
    assert guest(f"name='g'\n{text}\n").kind is kind


REFUSED = [
    ("", "no-name", "1:1"),
    ("name='g'\nPCI = ['01:00.0']\n", "no-setting", "2:1"),
    ("name='g'\nimport os\n", "no-sign", "2:8"),
    ("name='g'\nmemory = 2*512\n", "unended-setting", "2:11"),
    ("name='g'\npci = ['01:00.0',\n 'oops']\n", "no-pci-device", "3:2"),
    ("name='g'\nvif = ['mac=1'\n", "unclosed-list", "2:7"),
    ("name='g'\nx = ['a' 'b']\n", "no-comma", "2:10"),
    ("name='g'\nx = 'a\\qb'\n", "unknown-escape", "2:5"),
    ("name='g'\nx = 'a\\x41'\n", "unknown-escape", "2:5"),
    ("name='g'\nx = b\n", "no-value", "2:5"),
    ("name=['g']\n", "list-for-value", "1:6"),
    ("name='g'\nx='a'\nx+=['b']\n", "mixed-types", "3:2"),
    ("name='g'\ntype='kvm'\n", "unknown-kind", "2:6"),
    ("name='g'\npci=[['01:00.0']]\n", "list-for-value", "2:6"),
    ("name='g'\npci=['01:00.0']\nrdm='policy=lax'\n", "unknown-rdm", "3:5"),
    ("name='g'\nx=" + "[" * 100, "nested-too-deep", "2:19"),
    ("name='g'\n\x1b[2J\n", "no-setting", "2:1"),
]
WRONG_DEVICES = (
    "", "permissive=1", "01:00.0,name=nic0", "01:00.0,permissive", "01:00.0,Permissive=1", "01:00.0,rdm_policy=lax",
    "01:00.0,vslot=32", "01:00.0@", "01:00.0-3", "bdf=01:00.0x",
)  # fmt: skip


@pytest.mark.parametrize(("text", "name", "place"), REFUSED)
def test_what_xl_refuses_is_a_diagnostic_with_its_place(text: str, name: str, place: str) -> None:
    assert names_and_places(text) == [(name, place)]


def test_the_sentences_of_all_diagnostics_are_the_golden_ones(
    golden: Callable[[str, str], None],
) -> None:
    texts = [text for text, *_ in REFUSED]
    texts += [f"name='g'\npci=['{spec}']\n" for spec in WRONG_DEVICES]
    said = [f"== {text.strip()[:60]!a}\n{usage_error(text).message}\n" for text in texts]
    golden("xl_cfg_diagnostics.txt", "\n".join(said))


def test_all_that_is_wrong_is_reported_at_once_and_bounded() -> None:
    error = usage_error("name = 'g'\n" + "Wrong = 1\n" * 50)
    assert len(error.diagnostics) == 50
    assert error.message.count("\n") == 20
    assert error.message.splitlines()[-1].startswith("30 ")


def test_a_single_value_of_pci_is_read_and_said() -> None:
    found = guest("name = 'g'\npci = '01:00.0'\n")
    assert found.devices[0].spec.address == NIC
    assert found.notes[0].startswith("g.cfg:2:7: ")


def test_what_is_odd_and_harmless_is_mentioned() -> None:
    assert "e820_host" in guest("name='g'\ne820_host=0\npci=['01:00.0']\n").notes[0]
    assert "PVH" in guest("name='g'\ntype='pvh'\npci=['01:00.0']\n").notes[0]
    assert guest("name='g'\ne820_host=0\n").notes == ()


def test_a_large_file_is_no_xl_cfg() -> None:
    assert usage_error("#" * (xl_cfg.MAX_BYTES + 1)).name == "too-large"


def test_code_in_the_file_is_text(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    code = f"__import__('os').system('touch {trap}')"
    assert names_and_places(f"name = 'g'\n{code}\n") == [("no-setting", "2:1")]
    assert ("no-value", "1:8") in names_and_places(f"name = {code}\n")
    assert guest(f'name = "{code}"\n').name == code
    assert not trap.exists()


PIECES = st.sampled_from(
    ["name", "pci", "=", "+=", "[", "]", ",", ";", "'01:00.0'", '"g"', "'", '"', "\\", "\n", " ", "#",
     "01", "\r\n", "type", "'hvm'", "rdm", "'policy=strict'", "exec('1')", "\x00", "\u2028", "é"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=120))
def test_no_text_brings_another_error_than_its_own(text: str) -> None:
    with suppress(UsageError):
        guest(text)


@given(st.binary(max_size=200))
def test_no_bytes_bring_another_error_than_its_own(content: bytes) -> None:
    with suppress(UsageError):
        xl_cfg.parse(content, "g.cfg")


SPEC_PIECES = st.sampled_from(
    ["01:00.0", "0000:02:00.*", "@1f", "@", ",", "=", "bdf=03:00.0", "name=nic", "permissive=1", "seize=", "vslot=3",
     "rdm_policy=strict", "rdm_policy=", "x"]
)  # fmt: skip


@given(
    st.lists(SPEC_PIECES, max_size=4).map(",".join) | st.lists(SPEC_PIECES, max_size=6).map("".join)
)
def test_no_spec_brings_another_error_than_its_own(text: str) -> None:
    with suppress(ValueError):
        spec = read_spec(text)
        assert (spec.address is None) is not (spec.name is None)


def test_a_line_full_of_quotes_takes_no_time() -> None:
    usage_error("name='g'\n" + "x=" + "'\\" * 100_000)
    usage_error("name='g'\nx=[" + "[],'" * 50_000)


# words that libvirt's own reader of xl.cfg knows, or XML has an element for
EXPRESSIBLE = (
    "maxmem=2048", "vcpus=2", "maxvcpus=4", "cpus='0-3'", "on_reboot='restart'", "on_crash='destroy'", "kernel='/k'",
    "cmdline='ro'", "ramdisk='/i'", "bios='ovmf'", "acpi_firmware='/s'", "boot='cd'", "nestedhvm=1", "cpuid='host,x=0'",
    "spice=1", "vnc=1", "vnclisten='::'", "keymap='de'", "vnuma=[['pnode=0','size=512','vcpus=0','vdistances=10']]",
    "max_event_channels=2047", "max_grant_frames=64", "disk=['/dev/vg/x,raw,xvda,rw']", "vif=['bridge=xenbr0']",
    "channel=['name=x,connection=pty']", "tsc_mode='native'", "hap=1", "viridian=1", "hpet=1", "e820_host=1",
    "soundhw='ich6'", "serial='pty'", "localtime=1", "rtc_timeoffset=3600", "seclabel='x'", "videoram=16",
    "vga='stdvga'", "device_model_override='/q'", "device_model_args=['-x']", "uuid='x'",
)  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gfx_passthru=1", "gfx_passthru=1"),
        ("gfx_passthru='igd'", "gfx_passthru=igd"),
        ("gfx_passthru=0", None),
        ("rdm_mem_boundary=4096", "rdm_mem_boundary=4096"),
        ("mmio_hole='3072'", "mmio_hole=3072"),
        ("rdm='strategy=host,policy=relaxed'", "rdm=strategy=host,policy=relaxed"),
        ("rdm='policy=strict'", None),
        ("iomem=['a0,20@0']", "iomem=a0,20@0"),
        ("ioports=['2f8-2ff']", "ioports=2f8-2ff"),
        ("irqs=[5, 7]", "irqs=5, 7"),
        ("irqs=[]", None),
        ("dtdev=['/soc/ethernet']", "dtdev=/soc/ethernet"),
        ("device_tree='/boot/part.dtb'", "device_tree=/boot/part.dtb"),
        ("hvm_pirq=1", "hvm_pirq=1"),
        ("hvm_pirq=0", None),
        ("pirq=1", None),
        ("altp2m='external'", "altp2m=external"),
        ("vtpm=['backend=1']", "vtpm=backend=1"),
        ("nomigrate=0", None),
        ("xen_platform_pci=0", "xen_platform_pci=0"),
        ("xen_platform_pci=1", None),
        *((word, None) for word in EXPRESSIBLE),
        ("usbctrl=['version=2']", "usbctrl=version=2"),
        (
            "usbdev=['type=hostdev,hostbus=1,hostaddr=2']",
            "usbdev=type=hostdev,hostbus=1,hostaddr=2",
        ),
        ("usbdevice='host:046d:c52b'", "usbdevice=host:046d:c52b"),
        ("usbdevice=['tablet','host:1.2']", "usbdevice=tablet, host:1.2"),
        ("usbdevice='tablet'", None),
        ("passthrough='share_pt'", "passthrough=share_pt"),
        ("passthrough='enabled'", None),
        ("memory=1024", None),
    ],
)
def test_each_word_that_libvirt_lacks_is_named(setting: str, named: str | None) -> None:
    for pci in ("", "pci=['01:00.0']\n"):
        notes = guest(f"name='g'\ntype='hvm'\n{setting}\n{pci}").notes
        said = [note.partition(": ")[2].split(" is not carried over")[0] for note in notes]
        assert said == ([] if named is None else [named])


@pytest.mark.parametrize(
    ("settings", "entry", "named"),
    [
        ("pci_power_mgmt=1", "", ["pci_power_mgmt=1"]),
        ("pci_power_mgmt=1", ",power_mgmt=0", []),
        ("pci_power_mgmt=0", ",power_mgmt=1", ["power_mgmt=1"]),
        ("pci_msitranslate=1\npci_seize=1", "", ["pci_msitranslate=1", "pci_seize=1"]),
        ("pci_permissive=1", "", []),
        ("rdm='policy=relaxed'", "", ["rdm policy=relaxed"]),
        ("rdm='policy=relaxed'", ",rdm_policy=strict", ["rdm_policy=strict"]),
        ("", "@5,msitranslate=1,seize=0", ["vslot=5", "msitranslate=1", "seize=0"]),
    ],
)
def test_each_option_of_a_device_that_libvirt_lacks_is_named_as_it_is_written(
    settings: str, entry: str, named: list[str]
) -> None:
    (device,) = guest(f"name='g'\n{settings}\npci=['01:00.0{entry}']\n").devices
    notes = list(inexpressible.of_device(device))
    assert [note.split(" is not carried over")[0] for note in notes] == named
