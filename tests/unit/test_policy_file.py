"""What a policy file may say, and how it is told that it doesn't."""

from __future__ import annotations

import os
import re
from errno import ENOTDIR
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from cede.errors import Diagnostic, FailureKind, PolicyError
from cede.model.pci import Address
from cede.model.policy import (
    Assignment,
    Channel,
    DevicePolicy,
    Expect,
    Functions,
    Match,
    OnDrift,
    Place,
    Policy,
    Protect,
    Restart,
    Verification,
    When,
    Window,
)
from cede.policy.policy_files import parse, read
from cede.util import schemas

if TYPE_CHECKING:
    from collections.abc import Callable

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


def policy_error(text: str | bytes) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(text, FILE)
    assert caught.value.name == "wrong-policy"
    return caught.value


def diagnostics_about(text: str | bytes) -> tuple[Diagnostic, ...]:
    return policy_error(text).diagnostics


def the_diagnostic_about(text: str | bytes) -> Diagnostic:
    (diagnostic,) = diagnostics_about(text)
    return diagnostic


def names_and_places(text: str | bytes) -> list[tuple[str, str]]:
    return [(d.name, d.place) for d in diagnostics_about(text)]


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
    version, key, device = diagnostics_about(text)
    assert (version.name, version.place) == ("unexpected-value", "policy.yaml:2:10")
    assert (key.name, key.place) == ("unknown-key", "policy.yaml:13:14")
    assert "'gest'" in key.text
    assert key.text.endswith("'guest'?")
    assert (device.name, device.place) == ("unknown-device", "policy.yaml:15:14")
    assert "'nic7'" in device.text
    assert device.text.endswith("'nic1'?")


def test_the_message_is_every_diagnostic_in_a_line_of_its_own() -> None:
    error = policy_error(SAMPLE.replace("version: 1", "version: 2").replace("guest", "gest"))
    assert error.message.splitlines() == [f"{d.place}: {d.text}" for d in error.diagnostics]


def test_diagnostics_found_later_about_an_earlier_line_come_first() -> None:
    text = SAMPLE.replace('"0000:01:00.0"', "(01:00.0") + "typo: 1\n"
    assert names_and_places(text) == [
        ("no-address", "policy.yaml:5:22"),
        ("unknown-key", "policy.yaml:16:1"),
    ]


def test_each_missing_key_is_reported_once() -> None:
    device, domain = diagnostics_about("version: 1\nassignments: [{}]\n")
    assert device.name == domain.name == "missing-key"
    assert device.place == domain.place == "policy.yaml:2:15"
    assert "'device'" in device.text
    assert "'domain'" in domain.text


def test_malformed_devices_bring_no_diagnostics_about_the_assignments() -> None:
    text = "version: 1\ndevices:\nassignments: [{device: a, domain: b}]"
    assert names_and_places(text) == [("unexpected-value", "policy.yaml:2:9")]


def test_a_long_text_is_quoted_by_its_beginning() -> None:
    assert f"'{'x' * 57}...'" in the_diagnostic_about("x" * 10_000).text


def test_more_diagnostics_than_anybody_reads_are_counted() -> None:
    error = policy_error("version: 1\n" + "".join(f"k{n}: 1\n" for n in range(25)))
    assert len(error.diagnostics) == 25
    lines = error.message.splitlines()
    assert len(lines) == 21
    assert lines[-1].startswith("5 ")


def test_a_device_assigned_twice_is_reported_with_both_places() -> None:
    twice = the_diagnostic_about(SAMPLE.replace("device: nic1", "device: nic0"))
    assert (twice.name, twice.place) == ("assigned-twice", "policy.yaml:15:14")
    assert "'nic0'" in twice.text
    assert "'ace2x1' at policy.yaml:11:5" in twice.text
    assert "`alternatives`" in twice.text


def test_a_device_assigned_twice_to_one_domain_is_an_error_even_among_alternatives() -> None:
    twice = the_diagnostic_about(WIDE.replace("card, domain: b", "card, domain: a"))
    assert (twice.name, twice.place) == ("assigned-twice", "policy.yaml:13:14")
    assert "'card'" in twice.text
    assert twice.text.endswith("'a' at policy.yaml:12:5")


def test_one_domain_by_its_uuid_in_two_spellings_is_one_domain() -> None:
    uuid = "6f7d4fa5-8e6b-4f6f-8f1c-0d9a34b0f1aa"
    text = WIDE.replace("domain: a", f"domain: {uuid}")
    text = text.replace("domain: b", f"domain: {uuid.upper()}")
    twice = the_diagnostic_about(text)
    assert twice.name == "assigned-twice"
    assert twice.text.endswith(f"'{uuid}' at policy.yaml:12:5")


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
    twice = diagnostics_about(sharing("xyz", groups))[-1]
    assert (twice.name, twice.place) == ("assigned-twice", "policy.yaml:6:12")
    assert f"'{first}' at policy.yaml:{at}:3" in twice.text


def test_damaged_alternatives_bring_no_diagnostics_about_the_assignments() -> None:
    assert names_and_places(sharing("xy", "[[x]]")) == [("unexpected-value", "policy.yaml:6:16")]


def test_a_device_may_be_assigned_to_nobody() -> None:
    assert parse(device_with("match: {vendor: 8086}"), FILE).assignments == ()


def test_one_address_under_two_names_is_reported_with_both_places() -> None:
    text = SAMPLE.replace('mac: "52:54:00:ce:de:01"', "address: (01:00.0)")
    twice = the_diagnostic_about(text)
    assert (twice.name, twice.place) == ("device-named-twice", "policy.yaml:9:16")
    assert all(part in twice.text for part in ("0000:01:00.0", "'nic0'", "policy.yaml:4:3"))


def test_one_mac_address_under_two_names_is_reported_with_both_places() -> None:
    text = SAMPLE.replace('address: "0000:01:00.0"', 'mac: "52-54-00-CE-DE-01"')
    twice = the_diagnostic_about(text)
    assert (twice.name, twice.place) == ("device-named-twice", "policy.yaml:9:12")
    assert all(part in twice.text for part in ("52:54:00:ce:de:01", "'nic0'", "policy.yaml:4:3"))


@pytest.mark.parametrize(
    ("one", "other", "column", "named"),
    [
        ("path: pci0000:00/0a.0", "path: PCI0000:00/0A.0", 21, "pci0000:00/0a.0"),
        ("physical_function: 1:0.0, function: 1", "physical_function: 01:00.0, function: 1", 53, "1 of 0000:01:00.0"),
        ("vendor: 8086, class: 02", "class: 02, vendor: 8086", 14, ""),
    ],
)  # fmt: skip
def test_what_only_one_device_can_have_is_refused_under_a_second_name(
    one: str, other: str, column: int, named: str
) -> None:
    text = f"version: 1\ndevices:\n  a: {{match: {{{one}}}}}\n  b: {{match: {{{other}}}}}\n"
    twice = the_diagnostic_about(text)
    assert (twice.name, twice.place) == ("device-named-twice", f"policy.yaml:4:{column}")
    assert all(part in twice.text for part in (named, "'a'", "policy.yaml:3:3"))


@pytest.mark.parametrize("said", ["0000:09:00", "9:0", "09:00.*"])
def test_an_address_without_a_function_means_all_functions_of_the_slot(said: str) -> None:
    device = only_device(device_with(f'match: {{address: "{said}"}}'))
    assert (device.match.address, device.functions) == (Address(0, 9, 0, 0), Functions.ALL)


def test_a_function_of_a_card_is_refused_under_a_second_name() -> None:
    text = 'version: 1\ndevices:\n  gpu: {match: {address: "09:00"}}\n  audio: {match: {address: "09:00.1"}}\n'
    twice = the_diagnostic_about(text)
    assert (twice.name, twice.place) == ("device-named-twice", "policy.yaml:4:28")
    assert all(part in twice.text for part in ("0000:09:00.1", "'gpu'", "policy.yaml:3:3"))


def test_any_match_may_mean_all_functions_of_the_slot() -> None:
    device = only_device(device_with('match: {class: "0300"}, functions: all'))
    assert device.functions is Functions.ALL
    assert only_device(device_with('match: {class: "0300"}')).functions is Functions.ONE


@pytest.mark.parametrize(
    ("said", "column", "name"),
    [
        ('match: {address: "0000:09:00"}, functions: one', 53, "half-pair"),
        ('match: {address: "0000:09:00.0"}, functions: both', 55, "unexpected-value"),
        ('match: {physical_function: "0000:09:00", function: 0}', 37, "unexpected-value"),
    ],
)
def test_functions_that_fit_no_address_are_reported(said: str, column: int, name: str) -> None:
    assert names_and_places(device_with(said)) == [(name, f"policy.yaml:3:{column}")]


WINDOW = "version: 1\nwindow: {{{}}}\n"


def test_the_window_is_read_with_its_days() -> None:
    window = parse(WINDOW.format("from: 22:30, to: 04:00, days: [sat, sun]"), FILE).window
    assert window == Window(begin=1350, end=240, days=(5, 6), place=place(2, 1))
    assert parse(WINDOW.format("from: 00:00, to: 24:00"), FILE).window == Window(
        begin=0, end=1440, days=tuple(range(7)), place=place(2, 1)
    )


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("from: 02:00, to: 02:00", "window-never-opens"),
        ("from: 24:00, to: 02:00", "window-never-opens"),
        ("from: 23:58, to: 00:03", "window-too-short"),
        ("from: 02:00, to: 04:00, days: []", "unexpected-value"),
        ("from: 02:00, to: 04:00, days: [sunday]", "unexpected-value"),
        ("from: 2am, to: 04:00", "unexpected-value"),
        ("from: 25:00, to: 04:00", "unexpected-value"),
        ("from: 02:00", "missing-key"),
    ],
)
def test_a_window_that_never_opens_is_reported(said: str, name: str) -> None:
    (found,) = diagnostics_about(WINDOW.format(said))
    assert found.name == name
    assert found.place.startswith("policy.yaml:2:")


def test_a_restart_is_permitted_when_the_policy_says_so() -> None:
    text = (
        device_with("match: {vendor: 8086}")
        + "assignments: [{device: nic0, domain: a, restart: when-asked}]"
    )
    assert parse(text, FILE).assignments[0].restart is Restart.WHEN_ASKED


def test_a_name_that_would_be_another_ones_alias_is_reported() -> None:
    text = 'version: 1\ndevices: {gpu-pci_0000_09_00_1: {match: {address: "09:00.1"}}}\n'
    assert names_and_places(text) == [("unexpected-value", "policy.yaml:2:11")]


def test_any_of_the_same_devices_may_be_wanted_under_two_names() -> None:
    same = "{match: {vendor: 8086, device: 10d3, any: true}}"
    assert len(parse(f"version: 1\ndevices: {{a: {same}, b: {same}}}", FILE).devices) == 2


def test_two_devices_with_broken_addresses_bring_no_diagnostics_about_each_other() -> None:
    text = "version: 1\ndevices: {a: {match: {address: (1:0.0}}, b: {match: {address: (2:0.0}}}"
    assert [name for name, _ in names_and_places(text)] == ["no-address"] * 2


BOOLEANS = [("yes", "true"), ("on", "true"), ("True", "true"), ("1", "true"), ("tru", "true"),
            ("no", "false"), ("off", "false"), ("FALSE", "false"), ("0", "false")]  # fmt: skip


@pytest.mark.parametrize("key", ["permissive", "adopt"])
@pytest.mark.parametrize(("found", "near"), BOOLEANS)
def test_other_words_for_true_and_false_are_reported_the_right_one(
    key: str, found: str, near: str
) -> None:
    wrong = the_diagnostic_about(WIDE.replace(f"{key}: true", f"{key}: {found}"))
    assert wrong.name == "unexpected-value"
    assert f"'{found}'" in wrong.text
    assert wrong.text.endswith(f"'{near}'?")


def test_true_in_quotes_is_reported_to_leave_them_out() -> None:
    wrong = the_diagnostic_about(WIDE.replace("any: true", 'any: "true"'))
    assert (wrong.name, wrong.place) == ("unexpected-value", "policy.yaml:10:50")
    assert not wrong.text.endswith("?")  # nothing else is meant


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
        ("guest: device, timeout: 60", Verification(guest=Channel.DEVICE, timeout=60)),
        ("guest: none", Verification(guest=Channel.NONE)),
    ],
)  # fmt: skip
def test_how_a_guest_is_asked_is_read_with_all_that_the_channel_needs(
    said: str, resolve_assignment: Verification
) -> None:
    assert parse(assignment_with(said), FILE).assignments[0].verification == resolve_assignment


MISFITS = [
        ("guest: consle", 21, "unexpected-value"),
        ("guest: device, user: root", 29, "unexpected-value"),
        ("guest: console, host: pv1", 30, "unexpected-value"),
        ("identity_file: /k", 14, "unexpected-value"),
        ("user: root", 14, "half-pair"),
        ("guest: ssh", 5, "missing-key"),
        ("guest: ssh, host: -oProxyCommand=x", 32, "unexpected-value"),
        ("guest: ssh, host: a@-b", 32, "unexpected-value"),
        ("guest: ssh, host: a b", 32, "unexpected-value"),
        ("guest: ssh, host: a, password_file: /p", 35, "unexpected-value"),
        ("guest: ssh, host: a, user: -x", 41, "unexpected-value"),
        ("guest: xenstore, user: root", 31, "unexpected-value"),
        ("guest: none, timeout: 9", 27, "unexpected-value"),
        ("timeout: 4", 23, "unexpected-value"),
        ("timeout: 301", 23, "unexpected-value"),
        ('timeout: "30"', 23, "unexpected-value"),
        ("guest: ssh, host: a, identity_file: key", 50, "unexpected-value"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "column", "name"), MISFITS)
def test_a_key_that_doesnt_fit_the_channel_is_reported_with_its_place(
    said: str, column: int, name: str
) -> None:
    assert names_and_places(assignment_with(said)) == [(name, f"policy.yaml:6:{column}")]


def test_a_duplicate_key_is_reported_with_both_places() -> None:
    twice = the_diagnostic_about(SAMPLE.replace("    on_drift:", "    domain:"))
    assert (twice.name, twice.place) == ("repeated-key", "policy.yaml:14:5")
    assert "'domain'" in twice.text
    assert "policy.yaml:12:5" in twice.text


NESTED = "[" * 100_000
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
MALFORMED: dict[str, tuple[str | bytes, int, int, str]] = {
    "empty": ("", 1, 1, "empty-file"),
    "comments only": ("# nothing\n", 1, 1, "empty-file"),
    "a word": ("hello", 1, 1, "unexpected-value"),
    "a list": ("- 1\n", 1, 1, "unexpected-value"),
    "null": ("~", 1, 1, "unexpected-value"),
    "no version": ("devices: {}\n", 1, 1, "missing-key"),
    "quoted version": ('version: "1"\n', 1, 10, "unexpected-value"),
    "devices in a list": ("version: 1\ndevices:\n- nic0: {}\n", 3, 1, "unexpected-value"),
    "assignments in a mapping": ("version: 1\nassignments:\n  a: {}\n", 3, 3, "unexpected-value"),
    "no devices": ("version: 1\ndevices:\n", 2, 9, "unexpected-value"),
    "no assignments": ("version: 1\nassignments:\n", 2, 13, "unexpected-value"),
    "two documents": ("version: 1\n---\nversion: 1\n", 2, 1, "no-yaml"),
    "a tab": ("version: 1\ndevices:\n\tnic0: x\n", 3, 1, "no-yaml"),
    "an open bracket": ("version: [1\n", 2, 1, "no-yaml"),
    "NUL": ("version: 1\n\0", 2, 1, "no-text"),
    "a lone surrogate": ("version: 1 \ud800", 1, 12, "no-text"),
    "Latin-1": (b"version: 1\n# gr\xfcn", 2, 5, "no-text"),
    "UTF-16": ("version: 1".encode("utf-16"), 1, 1, "no-text"),
    "deep nesting": (NESTED, 1, 21, "nested-too-deep"),
    "a deep mapping": ("{a: " * 30, 1, 78, "nested-too-deep"),
    "too large": ("#" * ((1 << 20) + 1), 1, 1, "too-large"),
    "billion laughs": (LAUGHS, 1, 4, "anchor"),
    "an alias": ("version: *one\n", 1, 10, "alias"),
    "a merge key": ("version: 1\n<<: {}\n", 2, 1, "unknown-key"),
    "an object": ("!!python/object/apply:os.system [id]\n", 1, 1, "tag"),
    "a tagged scalar": ("version: !!int 1\n", 1, 10, "tag"),
    "a character beyond Unicode": ('version: "\\UFFFFFFFF"', 1, 13, "no-yaml"),
    "a huge YAML version": ("%YAML 1." + "9" * 5000 + "\n--- {}", 1, 9, "no-yaml"),
    "a list as key": ("version: 1\n? [a]\n: b\n", 2, 3, "no-key"),
    "an unknown key": ("version: 1\ndevcies: {}\n", 2, 1, "unknown-key"),
    "match by nothing": (device_with("match: {}"), 3, 17, "unexpected-value"),
    "no match": (device_with("expect: {}"), 3, 3, "missing-key"),
    "0x": (device_with("match: {vendor: 0x8086}"), 3, 26, "unexpected-value"),
    "three digits": (device_with("match: {vendor: 808}"), 3, 26, "unexpected-value"),
    "null id": (device_with("match: {vendor: null}"), 3, 26, "unexpected-value"),
    "five digits of class": (device_with("match: {vendor: 8086}, expect: {class: 02000}"), 3, 49, "unexpected-value"),
    "any alone": (device_with("match: {any: true}"), 3, 17, "incomplete-value"),
    "a function alone": (device_with("match: {function: 0}"), 3, 18, "half-pair"),
    "a physical function alone": (
        device_with("match: {physical_function: 01:00.0}"), 3, 18, "half-pair",
    ),
    "half a physical function": (
        device_with("match: {physical_function: (01:00.0, function: 0}"), 3, 37, "no-address",
    ),
    "a function in quotes": (
        device_with('match: {physical_function: 01:00.0, function: "1"}'), 3, 56, "unexpected-value",
    ),
    "a function that YAML takes for octal": (
        device_with("match: {physical_function: 01:00.0, function: 010}"), 3, 56, "unexpected-value",
    ),
    "a function too high": (
        device_with("match: {physical_function: 01:00.0, function: 65535}"), 3, 56, "unexpected-value",
    ),
    "VLAN 4095": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 1, vlan: 4095}'),
        3, 75, "unexpected-value",
    ),
    "functions without a count": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {vlan: 1}'),
        3, 39, "missing-key",
    ),
    "a count in quotes": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: "2"}'),
        3, 66, "unexpected-value",
    ),
    "a group MAC": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 1, mac: ["01:00:5e:00:00:01"]}'),
        3, 75, "no-station-mac",
    ),
    "a MAC of zeros": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 1, mac: "00:00:00:00:00:00"}'),
        3, 74, "no-station-mac",
    ),
    "fewer MACs than functions": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 2, mac: ["52:54:00:aa:00:01"]}'),
        3, 69, "mac-count",
    ),
    "a MAC for two functions": (
        device_with(
            'match: {address: "01:00.0"},'
            ' virtual_functions: {count: 2, mac: ["52:54:00:aa:00:01", "52-54-00-AA-00-01"]}'
        ),
        3, 96, "mac-twice",
    ),
    "a MAC that runs over": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 3, mac: "52:54:00:ff:ff:fe"}'),
        3, 74, "mac-count",
    ),
    "a link state of its own": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 1, link_state: up}'),
        3, 81, "unexpected-value",
    ),
    "trust in words": (
        device_with('match: {address: "01:00.0"}, virtual_functions: {count: 1, trust: yes}'),
        3, 76, "unexpected-value",
    ),
    "functions of any card": (
        device_with("match: {vendor: 8086, any: true}, virtual_functions: {count: 1}"),
        3, 17, "any-physical-function",
    ),
    "functions of a whole card": (
        device_with('match: {address: "01:00"}, virtual_functions: {count: 1}'), 3, 17, "any-physical-function",
    ),
    "its own physical function": (
        device_with("match: {physical_function: nic0, function: 0}"),
        3, 37, "own-function",
    ),
    "an unknown physical function": (
        device_with("match: {physical_function: nic7, function: 0}"),
        3, 37, "unknown-device",
    ),
    "a path without a root": (device_with("match: {path: 08.0/00.0}"), 3, 24, "unexpected-value"),
    "a path without a hop": (device_with("match: {path: pci0000:00}"), 3, 24, "unexpected-value"),
    "a short serial": (device_with("match: {serial: 00-11-22}"), 3, 26, "unexpected-value"),
    "half a subsystem": (device_with("match: {subsystem: 8086}"), 3, 29, "unexpected-value"),
    "a path as identity": (device_with("match: {vendor: 8086}, expect: {path: x}"), 3, 42, "unknown-key"),
    "a bridge": (device_with("match: {vendor: 8086}, override: [bridge]"), 3, 44, "unexpected-value"),
    "a near guard": (device_with("match: {vendor: 8086}, override: [boot_vga]"), 3, 44, "unexpected-value"),
    "a guard twice": (device_with("match: {vendor: 8086}, override: [ssh, ssh]"), 3, 49, "repeated-value"),
    "a guard without a list": (device_with("match: {vendor: 8086}, override: ssh"), 3, 43, "unexpected-value"),
    "no reason": ("version: 1\nprotect: [{vendor: 8086}]\n", 2, 11, "missing-key"),
    "an empty reason": ('version: 1\nprotect: [{vendor: 8086, reason: ""}]\n', 2, 34, "unexpected-value"),
    "a reason only": ("version: 1\nprotect: [{reason: mine}]\n", 2, 11, "incomplete-value"),
    "any in protect": ("version: 1\nprotect: [{vendor: 8086, any: true, reason: x}]\n", 2, 26, "unknown-key"),
    "a protected word": ("version: 1\nprotect: [nic0]\n", 2, 11, "unexpected-value"),
    "no protect": ("version: 1\nprotect:\n", 2, 9, "unexpected-value"),
    "no groups": ("version: 1\nalternatives: [a, b]\n", 2, 16, "unexpected-value"),
    "a group of none": ("version: 1\nalternatives: [[]]\n", 2, 16, "unexpected-value"),
    "a group of one": ("version: 1\nalternatives: [[a]]\n", 2, 16, "unexpected-value"),
    "a domain twice": ("version: 1\nalternatives: [[a, b, a]]\n", 2, 23, "repeated-value"),
    "some time": (WIDE.replace("next-start", "next_start"), 12, 37, "unexpected-value"),
    "a slot too high": (device_with("match: {address: 01:20.0}"), 3, 27, "unexpected-value"),
    "half a bracket": (device_with("match: {address: (01:00.0}"), 3, 27, "no-address"),
    "a short MAC": (device_with("match: {mac: 52:54}"), 3, 23, "unexpected-value"),
    "a line break in an id": (device_with('match: {vendor: "8086\\n"}'), 3, 26, "unprintable"),
    "a line break in a name": ('version: 1\ndevices: {"a\\n": {match: {vendor: 8086}}}', 2, 11, "unprintable"),
    "a space in a name": ("version: 1\ndevices: {a b: {match: {vendor: 8086}}}", 2, 11, "unexpected-value"),
    "a long name": (f"version: 1\ndevices: {{{'a' * 65}: {{match: {{vendor: 8086}}}}}}", 2, 11, "unexpected-value"),
    "no domain": ("version: 1\nassignments: [{device: a}]\n", 2, 15, "missing-key"),
    "off": (SAMPLE.replace("guest: none", "guest: off"), 13, 21, "unexpected-value"),
    "drift": (SAMPLE.replace("report", "reprot"), 14, 15, "unexpected-value"),
}  # fmt: skip


SEVERAL = {
    "a version, a key, a device": SAMPLE.replace("version: 1", "version: 2")
    .replace("guest", "gest")
    .replace("device: nic1", "device: nic7"),
    "a device for two domains": SAMPLE.replace("device: nic1", "device: nic0"),
    "a device twice for a domain": WIDE.replace("card, domain: b", "card, domain: a"),
    "an address under two names": SAMPLE.replace('mac: "52:54:00:ce:de:01"', "address: (01:00.0)"),
    "a match under two names": "version: 1\ndevices:\n  a: {match: {vendor: 8086}}\n  b: {match: {vendor: 8086}}\n",
    "a key twice": SAMPLE.replace("    on_drift:", "    domain:"),
    "a boolean in quotes": WIDE.replace("any: true", 'any: "true"'),
    "a boolean of another language": WIDE.replace("adopt: true", "adopt: yes"),
    "more than anybody reads": "version: 1\n" + "".join(f"k{n}: 1\n" for n in range(25)),
}


@pytest.mark.parametrize(
    ("text", "line", "column", "name"), MALFORMED.values(), ids=list(MALFORMED)
)
def test_a_malformed_file_is_reported_what_is_wrong_and_where(
    text: str | bytes, line: int, column: int, name: str
) -> None:
    assert names_and_places(text)[0] == (name, f"policy.yaml:{line}:{column}")


def test_the_sentences_of_all_diagnostics_are_the_golden_ones(
    golden: Callable[[str, str], None],
) -> None:
    cases = {title: text for title, (text, *_) in MALFORMED.items()}
    cases |= {said: assignment_with(said) for said, *_ in MISFITS}
    cases |= {f"a policy with {title}": text for title, text in SEVERAL.items()}
    said = [f"== {title}\n{policy_error(text).message}\n" for title, text in cases.items()]
    # how Python words a number that it can't read differs between its versions
    golden("policy_diagnostics.txt", re.sub(r"(?<=no YAML: ).*", "...", "\n".join(said)))


def test_a_file_is_read_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(SAMPLE)
    assert read(path).devices[0].place == Place(file=str(path), line=4, column=3)


def unreadable(path: Path) -> Diagnostic:
    with pytest.raises(PolicyError) as caught:
        read(path)
    assert caught.value.kind is FailureKind.USAGE
    assert caught.value.remedy
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.place == str(path)
    return diagnostic


def test_a_missing_file_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    assert unreadable(tmp_path / FILE).name == "no-such-file"


def test_a_directory_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    assert unreadable(tmp_path).name == "is-a-directory"


def test_a_file_that_may_not_be_read_is_a_usage_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(
        *_: object, **__: object
    ) -> bytes:  # root, as whom this may run, is refused nothing
        raise PermissionError

    monkeypatch.setattr("cede.policy.policy_files.read_trusted", refused)
    assert unreadable(tmp_path / FILE).name == "permission-denied"


def test_a_path_through_a_file_is_a_usage_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    diagnostic = unreadable(tmp_path / "file" / FILE)
    assert diagnostic.name == "unreadable"
    assert os.strerror(ENOTDIR) in diagnostic.text


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(PolicyError) as caught:
        read(path)
    assert [d.name for d in caught.value.diagnostics] == ["too-large"]


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
