"""What holds of every policy file: what is sound reads back as written, what is malformed is refused and no more.

The four strategies of malformed files make 1,000 of them in each run: those that turn out to be sound don't count.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cede.errors import FailureKind, PolicyError
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
from cede.policy.policy_files import parse, read_all
from cede.util.text import is_plain

FILE = "policy.yaml"
NOWHERE = Place(file="", line=0, column=0)
LINE = re.compile(r"\S+:[1-9][0-9]*:[1-9][0-9]*: \S")
GUARDS = ("filesystem", "swap", "default-route", "ssh", "boot-vga", "keyboard", "guest-disk",
          "guest-network", "member", "protect", "sibling")  # fmt: skip
SAMPLE = """\
version: 1
devices:
  nic0:
    match: {path: "pci0000:00/08.0/00.0", serial: 00-11-22-33-44-55-66-77, class: "02"}
    expect: {vendor: "8086", device: "10d3", subsystem: "8086:0000", class: "020000"}
    override: [boot-vga, sibling]
  vf:
    match:
      physical_function: "0000:01:00.0"
      function: 1
  any: {match: {vendor: "8086", any: true}}
assignments:
  - {device: nic0, domain: ace2x1, when: next-start, permissive: true, adopt: false}
  - {device: nic0, domain: ace2x2, verify: {guest: none}, on_drift: report}
protect:
  - {address: "0000:00:03.0", reason: the root disk}
alternatives:
  - [ace2x1, ace2x2]
"""


def settings_for(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def hexes(*lengths: int) -> st.SearchStrategy[str]:
    return st.sampled_from(lengths).flatmap(
        lambda n: st.text("0123456789abcdef", min_size=n, max_size=n)
    )


def joined(separator: str, count: int, digits: int) -> st.SearchStrategy[str]:
    return st.lists(hexes(digits), min_size=count, max_size=count).map(separator.join)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ADDRESSES = st.builds(
    Address, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)
HOPS = st.builds("{:02x}.{}".format, st.integers(0, 0x1F), st.integers(0, 7))
PATHS = st.builds(
    lambda root, hops: "/".join([f"pci{root}", *hops]),
    joined(":", 1, 4).flatmap(lambda segment: hexes(2).map(lambda bus: f"{segment}:{bus}")),
    st.lists(HOPS, min_size=1, max_size=4),
)
CODES = {
    "vendor": maybe(hexes(4)),
    "device": maybe(hexes(4)),
    "subsystem": maybe(joined(":", 2, 4)),
    "class_code": maybe(hexes(2, 4, 6)),
    "mac": maybe(joined(":", 6, 2)),
    "serial": maybe(joined("-", 8, 2)),
}
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(is_plain)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
USERS = st.from_regex(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,9}", fullmatch=True)
FILES = st.from_regex(r"/[A-Za-z0-9_./ -]{1,12}", fullmatch=True)
TIMEOUTS = st.integers(5, 300)
VERIFICATIONS = st.one_of(
    st.builds(Verification, timeout=TIMEOUTS),
    st.builds(Verification, user=USERS, password_file=FILES, timeout=TIMEOUTS),
    st.builds(
        Verification,
        guest=st.just(Channel.SSH),
        host=st.from_regex(r"([a-z]{1,3}@)?[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,9}", fullmatch=True),
        user=maybe(USERS),
        identity_file=maybe(FILES),
        timeout=TIMEOUTS,
    ),
    st.builds(Verification, guest=st.just(Channel.XENSTORE), timeout=TIMEOUTS),
    st.just(Verification(guest=Channel.NONE)),
)
MATCHES = st.builds(Match, address=maybe(ADDRESSES), path=maybe(PATHS), **CODES)
VIRTUAL = st.builds(
    Match,
    physical_function=ADDRESSES,
    function_index=st.integers(0, 65534),
    vendor=CODES["vendor"],
)
SOUND_MATCHES = (MATCHES | VIRTUAL).filter(lambda match: match != Match())


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A sound policy, all its places being nowhere."""

    def apart(*keys: str) -> Callable[[DevicePolicy], object]:
        return lambda d: object() if all(getattr(d.match, k) is None for k in keys) else tuple(
            getattr(d.match, k) for k in keys
        )  # fmt: skip

    devices = draw(
        st.lists(
            st.builds(
                DevicePolicy,
                name=NAMES,
                match=st.builds(
                    lambda match, any_one: replace(match, any_one=any_one),
                    SOUND_MATCHES,
                    st.booleans(),
                ),
                expect=st.builds(Expect, **CODES),
                override=st.lists(st.sampled_from(GUARDS), unique=True, max_size=3).map(tuple),
                place=st.just(NOWHERE),
            ),
            max_size=4,
            unique_by=(
                lambda d: d.name,
                lambda d: replace(d.match, any_one=False),
                apart("address"),
                apart("path"),
                apart("mac"),
                apart("physical_function", "function_index"),
            ),
        )
    )
    group = draw(st.lists(WORDS, min_size=2, max_size=3, unique=True))
    owners = {d.name: draw(st.lists(st.sampled_from(group), unique=True)) for d in devices}
    return Policy(
        devices=tuple(devices),
        assignments=tuple(
            Assignment(
                device=name,
                domain=domain,
                verification=draw(VERIFICATIONS),
                on_drift=draw(st.sampled_from(OnDrift)),
                when=draw(st.sampled_from(When)),
                permissive=draw(st.booleans()),
                adopt=draw(st.booleans()),
                place=NOWHERE,
            )
            for name, domains in owners.items()
            for domain in domains
        ),
        protect=tuple(
            draw(
                st.lists(
                    st.builds(Protect, match=SOUND_MATCHES, reason=WORDS, place=st.just(NOWHERE)),
                    max_size=2,
                )
            )
        ),
        alternatives=(tuple(group),),
    )


def identity_data(said: Match | Expect) -> dict[str, Any]:
    keys = {"class_code": "class", "function_index": "function", "any_one": "any"}
    values = {keys.get(name, name): getattr(said, name) for name in type(said).__dataclass_fields__}
    return {
        key: str(value) if isinstance(value, Address) else value
        for key, value in values.items()
        if value is not None and value is not False
    }


def data_of(policy: Policy) -> dict[str, Any]:
    """The policy as somebody would write it who leaves nothing out."""
    return {
        "version": 1,
        "devices": {
            d.name: {
                "match": identity_data(d.match),
                "expect": identity_data(d.expect),
                "override": list(d.override),
            }
            for d in policy.devices
        },
        "assignments": [
            {
                "device": a.device,
                "domain": a.domain,
                "verify": {
                    key: str(value) if key == "guest" else value
                    for key, value in asdict(a.verification).items()
                    if value is not None and (key, a.verification.guest) != ("timeout", "none")
                },
                "on_drift": str(a.on_drift),
                "when": str(a.when),
                "permissive": a.permissive,
                "adopt": a.adopt,
            }
            for a in policy.assignments
        ],
        "protect": [identity_data(p.match) | {"reason": p.reason} for p in policy.protect],
        "alternatives": [list(group) for group in policy.alternatives],
    }


def placeless(policy: Policy) -> Policy:
    return Policy(
        devices=tuple(replace(d, place=NOWHERE) for d in policy.devices),
        assignments=tuple(replace(a, place=NOWHERE) for a in policy.assignments),
        protect=tuple(replace(p, place=NOWHERE) for p in policy.protect),
        alternatives=policy.alternatives,
    )


def text_of(data: object, *, flow: bool = False, unicode: bool = True) -> str:
    return yaml.safe_dump(data, default_flow_style=flow, allow_unicode=unicode, sort_keys=False)


@settings_for(60)
@given(policies(), st.booleans(), st.booleans())
def test_a_sound_policy_reads_back_as_it_was_written(
    policy: Policy, flow: bool, unicode: bool
) -> None:
    text = text_of(data_of(policy), flow=flow, unicode=unicode)
    assert placeless(parse(text.encode(), FILE)) == policy


@settings_for(40)
@given(policies(), st.randoms(use_true_random=False))
def test_a_sound_policy_says_the_same_when_its_parts_are_in_several_files(
    policy: Policy, random: Random
) -> None:
    data = data_of(policy)
    files: list[dict[str, Any]] = [
        {"version": 1, "devices": {}, "assignments": [], "protect": [], "alternatives": []}
        for _ in range(3)
    ]
    for name, device in data["devices"].items():
        random.choice(files)["devices"][name] = device
    for top in ("assignments", "protect", "alternatives"):
        for part in data[top]:
            random.choice(files)[top].append(part)
    with TemporaryDirectory() as name:
        for number, said in enumerate(files):
            (Path(name) / f"{number}.yaml").write_text(text_of(said), encoding="utf-8")
        found = placeless(read_all([Path(name)]))
    assert sorted(map(repr, found.devices)) == sorted(map(repr, policy.devices))
    assert sorted(map(repr, found.assignments)) == sorted(map(repr, policy.assignments))
    assert sorted(map(repr, found.protect)) == sorted(map(repr, policy.protect))
    assert found.alternatives == policy.alternatives


def refusal_of(read: Callable[[], Policy]) -> PolicyError | None:
    """The refusal, whose every line has a place; None if it was read. Whatever else is raised fails the test."""
    refusal = None
    try:
        read()
    except PolicyError as error:
        refusal = error
    if refusal is not None:
        assert refusal.kind is FailureKind.USAGE
        # The twenty-first would count the others.
        assert all(LINE.match(line) for line in refusal.message.splitlines()[:20])
    return refusal


YAML_MARKS = "\n|  |- |: |? |{|}|[|]|&a |*a|!!str |!|%YAML 1.1\n|--- |...\n|>2 |'|\"|\\|\\x41|#|\t|\0|\ufeff|\x85"
YAML_WORDS = (
    "version|1|devices|nic0|match|address|01:00.0|assignments|null|any|true|protect|alternatives"
)
YAML_PIECES = st.sampled_from(["| ", *YAML_MARKS.split("|"), *YAML_WORDS.split("|")])


@settings_for(250)
@given(st.one_of(st.text(), st.binary(), st.lists(YAML_PIECES).map("".join)))
def test_arbitrary_text_is_refused_and_nothing_else(text: str | bytes) -> None:
    assume(refusal_of(lambda: parse(text, FILE)))


@settings_for(300)
@given(
    start=st.integers(0, len(SAMPLE)),
    length=st.integers(0, 12),
    put=st.one_of(st.text(max_size=8), YAML_PIECES),
)
def test_a_damaged_sample_is_refused_and_nothing_else(start: int, length: int, put: str) -> None:
    text = SAMPLE[:start] + put + SAMPLE[start + length :]
    assume(refusal_of(lambda: parse(text, FILE)))


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["8086", "any", "function", "nic0", "match", "0000:01:00.0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def damage(data: object, draw: st.DrawFn) -> object:
    """The tree with one of its nodes dropped, doubled, renamed or made junk."""
    if not isinstance(data, dict | list) or not data or draw(st.integers(0, 5)) == 0:
        return draw(JUNK)
    key = draw(st.sampled_from(sorted(data) if isinstance(data, dict) else range(len(data))))
    action = draw(st.sampled_from(["deeper", "deeper", "deeper", "drop", "rename"]))
    changed: Any = data.copy()
    if action == "drop":
        del changed[key]
    elif action == "deeper":
        changed[key] = damage(data[key], draw)
    elif isinstance(changed, dict):
        changed[draw(st.text(max_size=6) | st.sampled_from(["any", "class"]))] = changed.pop(key)
    else:
        changed.append(changed[key])
    return changed


@st.composite
def damaged_trees(draw: st.DrawFn) -> str:
    return text_of(damage(yaml.safe_load(SAMPLE), draw), flow=draw(st.booleans()))


@settings_for(300)
@given(damaged_trees())
def test_a_damaged_tree_is_refused_and_nothing_else(text: str) -> None:
    assume(refusal_of(lambda: parse(text, FILE)))


@settings_for(150)
@given(
    st.lists(damaged_trees() | st.just("version: 1\n") | st.just(SAMPLE), min_size=2, max_size=3)
)
def test_a_folder_with_malformed_files_is_refused_and_nothing_else(texts: list[str]) -> None:
    with TemporaryDirectory() as name:
        for number, text in enumerate(texts):
            (Path(name) / f"{number}.yaml").write_text(text, encoding="utf-8")
        assume(refusal_of(lambda: read_all([Path(name)])))
