"""What a policy file may say, and how it is told that it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cede.errors import Exit, PolicyError
from cede.model.pci import Address
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Match,
    OnDrift,
    Place,
    Policy,
    Protect,
    Verification,
    When,
)
from cede.policy.policy_files import parse, read
from cede.util import schemas

FILE = "policy.yaml"
SAMPLE = """\
# Both network cards of the lab.
version: 1
devices:
  nic0:
    match: {address: "0000:01:00.0"}
    expect: {vendor: "8086", device: "10d3", subsystem: "8086:0000", class: "020000"}
  nic1:
    match:
      mac: "52:54:00:ce:de:01"
assignments:
  - device: nic0
    domain: ace2x1
    verify: {guest: none}
    on_drift: report
  - {device: nic1, domain: 6f7d4fa5-8e6b-4f6f-8f1c-0d9a34b0f1aa}
"""
WIDE = """\
version: 1
devices:
  card:
    match: {path: PCI0000:00/08.0/0A.0, subsystem: "8086:A01F", class: 02, serial: 00-11-22-33-44-55-66-AA}
    expect: {mac: 52-54-00-CE-DE-01, serial: 00-11-22-33-44-55-66-AA, class: 0C0330}
    override: [boot-vga, member]
  virtual:
    match: {physical_function: "01:00.0", function: 3}
  some:
    match: {vendor: "8086", device: "10d3", any: true}
assignments:
  - {device: card, domain: a, when: next-start, permissive: true, adopt: true}
  - {device: card, domain: b, when: now, permissive: false, adopt: false}
protect:
  - {class: "0c03", reason: the keyboard hangs on it}
  - {physical_function: "01:00.0", function: 0, reason: kept}
alternatives:
  - [a, b]
"""


def place(line: int, column: int) -> Place:
    return Place(file=FILE, line=line, column=column)


def device_with(said: str) -> str:
    return f"version: 1\ndevices:\n  nic0: {{{said}}}\n"


def diagnostics_about(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse(text, FILE)
    return caught.value.message.splitlines()


def the_complaint_about(text: str | bytes) -> str:
    (line,) = diagnostics_about(text)
    return line


def only_device(text: str) -> DevicePolicy:
    (device,) = parse(text, FILE).devices
    return device


def test_the_sample_is_read_with_every_value_and_its_place() -> None:
    assert parse(SAMPLE, FILE) == Policy(
        devices=(
            DevicePolicy(
                name="nic0",
                match=Match(address=Address(0, 1, 0, 0)),
                expect=Expect(
                    vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000"
                ),
                place=place(4, 3),
            ),
            DevicePolicy(
                name="nic1",
                match=Match(mac="52:54:00:ce:de:01"),
                expect=Expect(),
                place=place(7, 3),
            ),
        ),
        assignments=(
            Assignment(
                device="nic0",
                domain="ace2x1",
                verification=Verification(guest=Channel.NONE),
                on_drift=OnDrift.REPORT,
                place=place(11, 5),
            ),
            Assignment(
                device="nic1", domain="6f7d4fa5-8e6b-4f6f-8f1c-0d9a34b0f1aa", place=place(15, 5)
            ),
        ),
        source=FILE,
    )


def test_the_wide_sample_is_read_with_every_value_and_its_place() -> None:
    function = Address(0, 1, 0, 0)
    assert parse(WIDE, FILE) == Policy(
        devices=(
            DevicePolicy(
                name="card",
                match=Match(
                    path="pci0000:00/08.0/0a.0",
                    subsystem="8086:a01f",
                    class_code="02",
                    serial="00-11-22-33-44-55-66-aa",
                ),
                expect=Expect(
                    mac="52:54:00:ce:de:01", serial="00-11-22-33-44-55-66-aa", class_code="0c0330"
                ),
                override=("boot-vga", "member"),
                place=place(3, 3),
            ),
            DevicePolicy(
                name="virtual",
                match=Match(physical_function=function, function_index=3),
                expect=Expect(),
                place=place(7, 3),
            ),
            DevicePolicy(
                name="some",
                match=Match(vendor="8086", device="10d3", any_one=True),
                expect=Expect(),
                place=place(9, 3),
            ),
        ),
        assignments=(
            Assignment(
                device="card",
                domain="a",
                when=When.NEXT_START,
                permissive=True,
                adopt=True,
                place=place(12, 5),
            ),
            Assignment(device="card", domain="b", place=place(13, 5)),
        ),
        protect=(
            Protect(
                match=Match(class_code="0c03"),
                reason="the keyboard hangs on it",
                place=place(15, 5),
            ),
            Protect(
                match=Match(physical_function=function, function_index=0),
                reason="kept",
                place=place(16, 5),
            ),
        ),
        alternatives=(("a", "b"),),
        source=FILE,
    )


def test_bytes_with_a_byte_order_mark_and_windows_line_ends_say_the_same() -> None:
    assert parse(b"\xef\xbb\xbf" + SAMPLE.replace("\n", "\r\n").encode(), FILE) == parse(
        SAMPLE, FILE
    )


def test_a_policy_may_want_nothing() -> None:
    assert parse("version: 1\n", FILE) == Policy(source=FILE)


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("digits", ["8086", "0123", "1e10", "10D3", "0000", "0777"])
def test_an_id_stays_the_digits_that_were_written_with_or_without_quotes(
    digits: str, quote: str
) -> None:
    device = only_device(device_with(f"match: {{vendor: {quote}{digits}{quote}}}"))
    assert device.match.vendor == digits.lower()


@pytest.mark.parametrize(
    "spelling", ["0000:01:00.0", "01:00.0", "(01:00.0)", "pci_0000_01_00_0", "PCI_0000_01_00_0"]
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_every_spelling_of_an_address_means_the_same(spelling: str, quote: str) -> None:
    device = only_device(device_with(f"match: {{address: {quote}{spelling}{quote}}}"))
    assert device.match.address == Address(0, 1, 0, 0)


def test_a_mac_address_is_lowercased_and_gets_colons() -> None:
    device = only_device(device_with("match: {mac: 52-54-00-CE-DE-01}"))
    assert device.match.mac == "52:54:00:ce:de:01"


def test_a_domain_may_be_called_what_yaml_takes_for_a_number_or_a_boolean() -> None:
    text = "version: 1\ndevices: {a: {match: {vendor: 8086}}, b: {match: {vendor: 8087}}}\n"
    text += "assignments: [{device: a, domain: on}, {device: b, domain: 0123}]\n"
    assert [a.domain for a in parse(text, FILE).assignments] == ["on", "0123"]


def test_a_domain_may_be_called_null_in_quotes() -> None:
    text = SAMPLE.replace("domain: ace2x1", 'domain: "null"')
    assert parse(text, FILE).assignments[0].domain == "null"


def test_all_diagnostics_come_together_in_the_order_of_the_file() -> None:
    text = SAMPLE.replace("version: 1", "version: 2").replace("guest", "gest")
    text = text.replace("device: nic1", "device: nic7")
    assert diagnostics_about(text) == [
        "policy.yaml:2:10: found 2, expected the number 1, without quotes",
        (
            "policy.yaml:13:14: found the unknown key 'gest', expected one of guest, user,"
            " password_file, host, identity_file, timeout; did you mean 'guest'?"
        ),
        "policy.yaml:15:14: found 'nic7', expected one of the devices; did you mean 'nic1'?",
    ]


def test_diagnostics_found_later_but_standing_earlier_come_first() -> None:
    lines = diagnostics_about(SAMPLE.replace('"0000:01:00.0"', "(01:00.0") + "typo: 1\n")
    assert [line.split(": ")[0] for line in lines] == ["policy.yaml:5:22", "policy.yaml:16:1"]


def test_each_missing_key_is_reported_once() -> None:
    lines = diagnostics_about("version: 1\nassignments: [{}]\n")
    assert [line[:47] for line in lines] == [
        "policy.yaml:2:15: the key 'device' is missing, ",
        "policy.yaml:2:15: the key 'domain' is missing, ",
    ]


def test_malformed_devices_bring_no_diagnostics_about_the_assignments() -> None:
    assert "found nothing" in the_complaint_about(
        "version: 1\ndevices:\nassignments: [{device: a, domain: b}]"
    )


def test_a_long_text_is_quoted_by_its_beginning() -> None:
    line = the_complaint_about("x" * 10_000)
    assert line.startswith(f"policy.yaml:1:1: found '{'x' * 57}...', expected")


def test_more_diagnostics_than_anybody_reads_are_counted() -> None:
    lines = diagnostics_about("version: 1\n" + "".join(f"k{n}: 1\n" for n in range(25)))
    assert len(lines) == 21
    assert lines[-1] == "5 more diagnostics after these"


def test_a_device_assigned_twice_is_reported_with_both_places() -> None:
    line = the_complaint_about(SAMPLE.replace("device: nic1", "device: nic0"))
    assert line.startswith("policy.yaml:15:14: ")
    assert "'nic0' is assigned already, to 'ace2x1' at policy.yaml:11:5" in line
    assert "one group of `alternatives`" in line


def test_a_device_assigned_twice_to_one_domain_is_an_error_even_among_alternatives() -> None:
    line = the_complaint_about(WIDE.replace("card, domain: b", "card, domain: a"))
    assert line.startswith("policy.yaml:13:14: ")
    assert line.endswith("'card' is assigned already, to 'a' at policy.yaml:12:5")


def test_one_domain_by_its_uuid_in_two_spellings_is_one_domain() -> None:
    uuid = "6f7d4fa5-8e6b-4f6f-8f1c-0d9a34b0f1aa"
    text = WIDE.replace("domain: a", f"domain: {uuid}")
    text = text.replace("domain: b", f"domain: {uuid.upper()}")
    assert the_complaint_about(text).endswith(f"to '{uuid}' at policy.yaml:12:5")


def sharing(domains: str, groups: str) -> str:
    text = "version: 1\ndevices: {a: {match: {vendor: 8086}}}\nassignments:\n"
    text += "".join(f"- {{device: a, domain: {domain}}}\n" for domain in domains)
    return f"{text}alternatives: {groups}\n"


def test_all_domains_of_one_group_may_share_a_device() -> None:
    assert len(parse(sharing("xyz", "[[v, w], [w, z, y, x]]"), FILE).assignments) == 3


@pytest.mark.parametrize(
    ("groups", "first", "at"),
    [
        ("[[v, w]]", "x", 4),
        ("[[x, y], [v, z]]", "x", 4),
        ("[[x, y], [x, z]]", "y", 5),
        ("[[x, y], [y, z], [x, z]]", "x", 4),
    ],
)
def test_domains_that_are_not_all_in_one_group_may_not_share_a_device(
    groups: str, first: str, at: int
) -> None:
    line = diagnostics_about(sharing("xyz", groups))[-1]
    assert line.startswith("policy.yaml:6:12: ")
    assert f"'a' is assigned already, to '{first}' at policy.yaml:{at}:3" in line


def test_damaged_alternatives_bring_no_diagnostics_about_the_assignments() -> None:
    assert "two or more" in the_complaint_about(sharing("xy", "[[x]]"))


def test_a_device_may_be_assigned_to_nobody() -> None:
    assert parse(device_with("match: {vendor: 8086}"), FILE).assignments == ()


def test_one_address_under_two_names_is_reported_with_both_places() -> None:
    text = SAMPLE.replace('mac: "52:54:00:ce:de:01"', "address: (01:00.0)")
    line = the_complaint_about(text)
    assert line.startswith("policy.yaml:9:16: ")
    assert "0000:01:00.0 is the device 'nic0' already, at policy.yaml:4:3" in line


def test_one_mac_address_under_two_names_is_reported_with_both_places() -> None:
    text = SAMPLE.replace('address: "0000:01:00.0"', 'mac: "52-54-00-CE-DE-01"')
    line = the_complaint_about(text)
    assert "52:54:00:ce:de:01 is the device 'nic0' already, at policy.yaml:4:3" in line


@pytest.mark.parametrize(
    ("one", "other", "column", "says"),
    [
        ("path: pci0000:00/0a.0", "path: PCI0000:00/0A.0", 21, "pci0000:00/0a.0 is"),
        ("physical_function: 1:0.0, function: 1", "physical_function: 01:00.0, function: 1", 53, "function 1 of 0000"),
        ("vendor: 8086, class: 02", "class: 02, vendor: 8086", 14, "what this matches is"),
    ],
)  # fmt: skip
def test_what_only_one_device_can_have_is_refused_under_a_second_name(
    one: str, other: str, column: int, says: str
) -> None:
    text = f"version: 1\ndevices:\n  a: {{match: {{{one}}}}}\n  b: {{match: {{{other}}}}}\n"
    line = the_complaint_about(text)
    assert line.startswith(f"policy.yaml:4:{column}: {says}")
    assert line.endswith("is the device 'a' already, at policy.yaml:3:3")


def test_any_of_the_same_devices_may_be_wanted_under_two_names() -> None:
    same = "{match: {vendor: 8086, device: 10d3, any: true}}"
    assert len(parse(f"version: 1\ndevices: {{a: {same}, b: {same}}}", FILE).devices) == 2


def test_two_devices_with_broken_addresses_bring_no_complaint_about_each_other() -> None:
    text = "version: 1\ndevices: {a: {match: {address: (1:0.0}}, b: {match: {address: (2:0.0}}}"
    assert all("is not a PCI address" in line for line in diagnostics_about(text))


BOOLEANS = [("yes", "true"), ("on", "true"), ("True", "true"), ("1", "true"), ("tru", "true"),
            ("no", "false"), ("off", "false"), ("FALSE", "false"), ("0", "false")]  # fmt: skip


@pytest.mark.parametrize("key", ["permissive", "adopt"])
@pytest.mark.parametrize(("found", "near"), BOOLEANS)
def test_other_words_for_true_and_false_are_reported_the_right_one(
    key: str, found: str, near: str
) -> None:
    line = the_complaint_about(WIDE.replace(f"{key}: true", f"{key}: {found}"))
    assert f"found '{found}', expected `true` or `false`, without quotes" in line
    assert line.endswith(f"; did you mean '{near}'?")


def test_true_in_quotes_is_reported_to_leave_them_out() -> None:
    line = the_complaint_about(WIDE.replace("any: true", 'any: "true"'))
    assert line == "policy.yaml:10:50: found 'true', expected `true` or `false`, without quotes"


def test_a_device_and_a_domain_may_be_called_true() -> None:
    text = "version: 1\ndevices: {true: {match: {vendor: 8086}}}\n"
    policy = parse(text + "assignments: [{device: true, domain: true}]", FILE)
    assert (policy.devices[0].name, policy.assignments[0].domain) == ("true", "true")


def test_every_guard_but_the_bridge_can_be_overridden() -> None:
    guards = "filesystem swap default-route ssh boot-vga keyboard guest-disk guest-network"
    guards += " member protect sibling"
    listed = ", ".join(guards.split())
    device = only_device(device_with(f"match: {{vendor: 8086}}, override: [{listed}]"))
    assert device.override == tuple(guards.split())


def assignment_with(verify: str) -> str:
    return (
        "version: 1\ndevices: {nic0: {match: {vendor: 8086}}}\nassignments:\n"
        f"  - device: nic0\n    domain: a\n    verify: {{{verify}}}\n"
    )


@pytest.mark.parametrize(
    ("said", "resolve_assignment"),
    [
        ("", Verification()),
        ("guest: console, timeout: 60", Verification(timeout=60)),
        (
            "user: root, password_file: /a.password",
            Verification(user="root", password_file="/a.password"),
        ),
        (
            "guest: ssh, host: admin@pv1.example, identity_file: /root/key",
            Verification(
                guest=Channel.SSH, host="admin@pv1.example", identity_file="/root/key"
            ),
        ),
        ('guest: ssh, host: "fe80::1%lab0", user: 0123',
         Verification(guest=Channel.SSH, host="fe80::1%lab0", user="0123")),
        ("guest: xenstore", Verification(guest=Channel.XENSTORE)),
        ("guest: none", Verification(guest=Channel.NONE)),
    ],
)  # fmt: skip
def test_how_a_guest_is_asked_is_read_with_all_that_the_channel_needs(
    said: str, resolve_assignment: Verification
) -> None:
    assert parse(assignment_with(said), FILE).assignments[0].verification == resolve_assignment


@pytest.mark.parametrize(
    ("said", "column", "complaint"),
    [
        ("guest: consle", 21, "found 'consle', expected `console`, `ssh`, `xenstore` or `none`; did"),
        ("guest: console, host: pv1", 30, "found 'host', expected one of `user`, `password_file` and `timeout`"),
        ("identity_file: /k", 14, "found 'identity_file', expected one of `user`, `password_file`"),
        ("user: root", 14, "found 'user' without 'password_file', expected both or neither"),
        ("guest: ssh", 5, "the key 'host' is missing, expected a destination of ssh"),
        ("guest: ssh, host: -oProxyCommand=x", 32, "found '-oProxyCommand=x', expected a destination of ssh"),
        ("guest: ssh, host: a@-b", 32, "found 'a@-b', expected a destination of ssh"),
        ("guest: ssh, host: a b", 32, "found 'a b', expected a destination of ssh"),
        ("guest: ssh, host: a, password_file: /p", 35, "found 'password_file', expected one of `host`"),
        ("guest: ssh, host: a, user: -x", 41, "found '-x', expected a user's name"),
        ("guest: xenstore, user: root", 31, "found 'user', expected at most `timeout` beside `guest: xenstore`"),
        ("guest: none, timeout: 9", 27, "found 'timeout', expected nothing beside `guest: none`"),
        ("timeout: 4", 23, "found 4, expected whole seconds from 5 to 300"),
        ("timeout: 301", 23, "found 301, expected whole seconds from 5 to 300"),
        ('timeout: "30"', 23, "found '30', expected whole seconds from 5 to 300"),
        ("guest: ssh, host: a, identity_file: key", 50, "found 'key', expected the absolute path"),
    ],
)  # fmt: skip
def test_a_key_that_doesnt_fit_the_channel_is_reported_with_its_place(
    said: str, column: int, complaint: str
) -> None:
    line = the_complaint_about(assignment_with(said))
    assert line.startswith(f"policy.yaml:6:{column}: {complaint}")


def test_a_duplicate_key_is_reported_with_both_places() -> None:
    line = the_complaint_about(SAMPLE.replace("    on_drift:", "    domain:"))
    assert line == "policy.yaml:14:5: the key 'domain' is already at policy.yaml:12:5"


NESTED = "[" * 100_000
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
MALFORMED = {
    "empty": ("", 1, 1, "the file says nothing"),
    "comments only": ("# nothing\n", 1, 1, "the file says nothing"),
    "a word": ("hello", 1, 1, "found 'hello', expected a mapping"),
    "a list": ("- 1\n", 1, 1, "found a list, expected a mapping"),
    "null": ("~", 1, 1, "found nothing, expected a mapping"),
    "no version": ("devices: {}\n", 1, 1, "the key 'version' is missing"),
    "quoted version": ('version: "1"\n', 1, 10, "found '1', expected the number 1, without quotes"),
    "devices in a list": ("version: 1\ndevices:\n- nic0: {}\n", 3, 1, "found a list, expected a mapping"),
    "assignments in a mapping": ("version: 1\nassignments:\n  a: {}\n", 3, 3, "found a mapping, expected a list"),
    "no devices": ("version: 1\ndevices:\n", 2, 9, "found nothing, expected a mapping"),
    "no assignments": ("version: 1\nassignments:\n", 2, 13, "found nothing, expected a list"),
    "two documents": ("version: 1\n---\nversion: 1\n", 2, 1, "another document"),
    "a tab": ("version: 1\ndevices:\n\tnic0: x\n", 3, 1, "indent with spaces"),
    "an open bracket": ("version: [1\n", 2, 1, "expected ',' or ']'"),
    "NUL": ("version: 1\n\0", 2, 1, "U+0000"),
    "a lone surrogate": ("version: 1 \ud800", 1, 12, "U+D800"),
    "Latin-1": (b"version: 1\n# gr\xfcn", 2, 5, "the byte 0xfc, expected UTF-8"),
    "UTF-16": ("version: 1".encode("utf-16"), 1, 1, "expected UTF-8"),
    "deep nesting": (NESTED, 1, 21, "nested more than 20 deep"),
    "a deep mapping": ("{a: " * 30, 1, 78, "nested more than 20 deep"),
    "too large": ("#" * ((1 << 20) + 1), 1, 1, "larger than 1 MiB"),
    "billion laughs": (LAUGHS, 1, 4, "the anchor &a; anchors can't be used here"),
    "an alias": ("version: *one\n", 1, 10, "the alias *one; write the value out"),
    "a merge key": ("version: 1\n<<: {}\n", 2, 1, "the unknown key '<<'"),
    "an object": ("!!python/object/apply:os.system [id]\n", 1, 1, "the tag 'tag:yaml.org,2002:python"),
    "a tagged scalar": ("version: !!int 1\n", 1, 10, "the tag"),
    "a character beyond Unicode": ('version: "\\UFFFFFFFF"', 1, 13, "this is no YAML"),
    "a huge YAML version": ("%YAML 1." + "9" * 5000 + "\n--- {}", 1, 9, "this is no YAML"),
    "a list as key": ("version: 1\n? [a]\n: b\n", 2, 3, "found a list or mapping, expected a key"),
    "an unknown key": ("version: 1\ndevcies: {}\n", 2, 1, "did you mean 'devices'?"),
    "match by nothing": (device_with("match: {}"), 3, 17, "found an empty mapping, expected"),
    "no match": (device_with("expect: {}"), 3, 3, "the key 'match' is missing"),
    "0x": (device_with("match: {vendor: 0x8086}"), 3, 26, "expected four hex digits without 0x"),
    "three digits": (device_with("match: {vendor: 808}"), 3, 26, "found '808', expected four hex digits"),
    "null id": (device_with("match: {vendor: null}"), 3, 26, "found nothing, expected four hex digits"),
    "five digits of class": (device_with("match: {vendor: 8086}, expect: {class: 02000}"), 3, 49, "two, four or six"),
    "any alone": (device_with("match: {any: true}"), 3, 17, "found only 'any', expected a mapping with"),
    "a function alone": (device_with("match: {function: 0}"), 3, 18, "found 'function' without 'physical_function'"),
    "a physical function alone": (
        device_with("match: {physical_function: 01:00.0}"), 3, 18, "found 'physical_function' without 'function'",
    ),
    "half a physical function": (
        device_with("match: {physical_function: (01:00.0, function: 0}"), 3, 37, "is not a PCI address",
    ),
    "a function in quotes": (
        device_with('match: {physical_function: 01:00.0, function: "1"}'), 3, 56, "a number below 65535 without quotes",
    ),
    "a function that YAML takes for octal": (
        device_with("match: {physical_function: 01:00.0, function: 010}"), 3, 56, "found '010', expected the virtual",
    ),
    "a function too high": (
        device_with("match: {physical_function: 01:00.0, function: 65535}"), 3, 56, "found 65535, expected",
    ),
    "a path without a root": (device_with("match: {path: 08.0/00.0}"), 3, 24, "such as \"pci0000:00/08.0/00.0\""),
    "a path without a hop": (device_with("match: {path: pci0000:00}"), 3, 24, "the slot.function of each hop"),
    "a short serial": (device_with("match: {serial: 00-11-22}"), 3, 26, "such as \"00-11-22-33-44-55-66-77\""),
    "half a subsystem": (device_with("match: {subsystem: 8086}"), 3, 29, "four hex digits each"),
    "a path as identity": (device_with("match: {vendor: 8086}, expect: {path: x}"), 3, 42, "the unknown key 'path'"),
    "a bridge": (device_with("match: {vendor: 8086}, override: [bridge]"), 3, 44, "bridges can't be overridden"),
    "a near guard": (device_with("match: {vendor: 8086}, override: [boot_vga]"), 3, 44, "did you mean 'boot-vga'?"),
    "a guard twice": (device_with("match: {vendor: 8086}, override: [ssh, ssh]"), 3, 49, "found 'ssh' again"),
    "a guard without a list": (device_with("match: {vendor: 8086}, override: ssh"), 3, 43, "expected a list of guards"),
    "no reason": ("version: 1\nprotect: [{vendor: 8086}]\n", 2, 11, "the key 'reason' is missing, expected the reason"),
    "an empty reason": ('version: 1\nprotect: [{vendor: 8086, reason: ""}]\n', 2, 34, "the reason in words"),
    "a reason only": ("version: 1\nprotect: [{reason: mine}]\n", 2, 11, "found only 'reason', expected a mapping"),
    "any in protect": ("version: 1\nprotect: [{vendor: 8086, any: true, reason: x}]\n", 2, 26, "unknown key 'any'"),
    "a protected word": ("version: 1\nprotect: [nic0]\n", 2, 11, "found 'nic0', expected a mapping with `reason`"),
    "no protect": ("version: 1\nprotect:\n", 2, 9, "found nothing, expected a list of matches"),
    "no groups": ("version: 1\nalternatives: [a, b]\n", 2, 16, "found 'a', expected a list of two or more"),
    "a group of none": ("version: 1\nalternatives: [[]]\n", 2, 16, "found an empty list, expected a list of two"),
    "a group of one": ("version: 1\nalternatives: [[a]]\n", 2, 16, "expected a list of two or more"),
    "a domain twice": ("version: 1\nalternatives: [[a, b, a]]\n", 2, 23, "found 'a' again, expected a list of two"),
    "some time": (WIDE.replace("next-start", "next_start"), 12, 37, "did you mean 'next-start'?"),
    "a slot too high": (device_with("match: {address: 01:20.0}"), 3, 27, "a PCI address"),
    "half a bracket": (device_with("match: {address: (01:00.0}"), 3, 27, "is not a PCI address"),
    "a short MAC": (device_with("match: {mac: 52:54}"), 3, 23, "expected a MAC address"),
    "a line break in an id": (device_with('match: {vendor: "8086\\n"}'), 3, 26, "without line breaks"),
    "a line break in a name": ('version: 1\ndevices: {"a\\n": {match: {vendor: 8086}}}', 2, 11, "without line breaks"),
    "a space in a name": ("version: 1\ndevices: {a b: {match: {vendor: 8086}}}", 2, 11, "expected a device name"),
    "a long name": (f"version: 1\ndevices: {{{'a' * 65}: {{match: {{vendor: 8086}}}}}}", 2, 11, "a device name"),
    "no domain": ("version: 1\nassignments: [{device: a}]\n", 2, 15, "the key 'domain' is missing"),
    "off": (SAMPLE.replace("guest: none", "guest: off"), 13, 21, "found 'off', expected `console`, `ssh`"),
    "drift": (SAMPLE.replace("report", "reprot"), 14, 15, "did you mean 'report'?"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "says"), MALFORMED.values(), ids=list(MALFORMED)
)
def test_a_malformed_file_is_reported_what_is_wrong_and_where(
    text: str | bytes, line: int, column: int, says: str
) -> None:
    complaint = diagnostics_about(text)[0]
    assert complaint.startswith(f"policy.yaml:{line}:{column}: ")
    assert says in complaint


def test_a_file_is_read_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(SAMPLE)
    assert read(path).devices[0].place == Place(file=str(path), line=4, column=3)


def test_a_missing_file_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="there is no such file") as caught:
        read(tmp_path / FILE)
    assert caught.value.exit is Exit.USAGE
    assert caught.value.remedy


def test_a_directory_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="this is a directory") as caught:
        read(tmp_path)
    assert caught.value.remedy


def test_a_file_that_may_not_be_read_is_a_usage_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    # Root, as whom this may run, is refused nothing.
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PolicyError, match="may not be read by you") as caught:
        read(tmp_path / FILE)
    assert caught.value.remedy


def test_a_path_through_a_file_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PolicyError, match=r"can't be read: .*Not a directory") as caught:
        read(tmp_path / "file" / FILE)
    assert caught.value.remedy


def test_an_endless_file_is_refused_for_its_size() -> None:
    with pytest.raises(PolicyError, match="larger than 1 MiB"):
        read(Path("/dev/zero"))


def test_the_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(schemas.load("policy.schema.json"))


def test_every_object_of_the_schema_is_closed_and_every_part_reports_what_it_expects() -> None:
    def walk(schema: dict[str, object]) -> None:
        if schema.get("type") == "object":
            assert "additionalProperties" in schema
        assert "description" in schema or "$ref" in schema
        for group in (schema.get("properties"), schema.get("$defs")):
            if isinstance(group, dict):
                for part in group.values():
                    walk(part)

    walk(schemas.load("policy.schema.json"))
