"""A fault of cede itself, met in what one guest or one device says, stays with that assignment and is told."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

import pytest

from cede.model.domain import Domain
from cede.policy.policy_files import host_policy
from cede.services.reconcile import RequestContext, apply, replan
from cede.util.clock import CALL_SECONDS
from cede.util.text import MAX_NUMBER, c_number, number
from sim.passing_time import InlineTimeouts
from unit.test_cli import Shown, cede, decisions, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cede.model.pci import Address
    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
_T = TypeVar("_T")


class Poison(str):
    """What nobody expects: it can't even be read."""

    __slots__ = ()

    def replace(self, *_: object) -> NoReturn:
        raise ZeroDivisionError


class PoisonedLog(list[str]):
    """The same of a log."""

    def __iter__(self) -> NoReturn:
        raise ZeroDivisionError


def two(path: Path) -> None:
    path.write_text(
        "version: 1\n"
        "devices:\n"
        '  nic0: {match: {address: "0000:01:00.0"}}\n'
        '  nic1: {match: {address: "0000:02:00.0"}}\n'
        "assignments:\n"
        "  - {device: nic0, domain: pv1}\n"
        "  - {device: nic1, domain: pv2, verify: {guest: none}}\n"
    )


def test_a_guest_that_cede_fails_at_is_not_verified_and_the_others_are(
    cede: Callable[..., Shown],
    host: SimulatedHost,
    policy: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    two(policy)
    host.guest_says = Poison("x")
    with caplog.at_level(logging.DEBUG, "cede.faults"):
        applied = cede("apply", "--json")
    assert applied.status == 1
    first, second = applied.json("report")["checked"]
    assert decisions(first)["guest"] == "not verified"
    assert decisions(first)["xenstore backend"] == "passed", "what dom0 sees is kept"
    assert second["verified"]
    assert any(record.exc_info for record in caplog.records)


def test_an_assignment_that_cede_fails_at_is_not_verified_and_the_report_comes_all_the_same(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    two(policy)
    host.kernel_said = PoisonedLog()
    applied = cede("apply", "--json")
    assert applied.status == 1
    assert [decisions(one) for one in applied.json("report")["checked"]] == [
        {"dom0": "not verified"},
        {"dom0": "not verified"},
    ]


class PoisonedDomain(Domain):
    """What nobody expects of a domain that is asked what it has."""

    def live_hostdev(self, address: Address) -> NoReturn:
        raise ZeroDivisionError(str(address))


class PoisonedFlag:
    """What nobody expects of what is true or not."""

    def __bool__(self) -> NoReturn:
        raise ZeroDivisionError


def _poisoned(domain: Domain) -> Domain:
    return PoisonedDomain(**{field.name: getattr(domain, field.name) for field in fields(domain)})


def _poisoned_flag(domain: Domain) -> Domain:
    return replace(domain, passthrough=cast("bool", PoisonedFlag()))


@pytest.mark.parametrize("poisoned", [_poisoned, _poisoned_flag])
def test_an_assignment_that_the_planner_fails_at_is_refused_and_the_others_are_planned(
    cede: Callable[..., Shown],
    host: SimulatedHost,
    policy: Path,
    caplog: pytest.LogCaptureFixture,
    poisoned: Callable[[Domain], Domain],
) -> None:
    two(policy)
    host.instead["domains"] = lambda read: tuple(
        poisoned(domain) if domain.name == "pv1" else domain for domain in read()
    )
    with caplog.at_level(logging.DEBUG, "cede.faults"):
        planned = cede("plan", "--json")
    found = {one["subject"]: one for one in planned.json("plan")["plan"]["decisions"]}
    assert found["nic0 -> pv1"]["rule"] == "unexpected"
    assert found["nic1 -> pv2"]["actions"]
    assert any(record.exc_info for record in caplog.records)
    assert cede("apply", "--json").status == 1
    assert set(host.backend.values()) == {2}, "the other one has its device"
    assert cede("status").status == 4


def test_what_explaining_one_assignment_fails_at_is_reported_there_and_the_others_are_explained(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    two(policy)
    cede("apply", "--yes")

    def said(read: Callable[[str], object], about: str) -> object:
        if about == "0000:01:00.0":
            raise ZeroDivisionError
        return read(about)

    host.instead["kernel-log"] = said
    explained = cede("verify", "--explain", "--json").json("status")["explained"]
    assert [one["checks"][0]["item"] for one in explained] == ["checklist", "module loaded"]
    assert explained[0]["checks"][0]["status"] == "not verified"


class Beating(InlineTimeouts):
    """Each call is waited for, for a moment."""

    def call(
        self,
        what: str,
        call: Callable[[], _T],
        *,
        seconds: float = CALL_SECONDS,
        waiting: Callable[[], None] = lambda: None,
    ) -> _T:
        waiting()
        return super().call(what, call, seconds=seconds)


def test_a_guest_that_is_silent_for_long_lets_the_daemon_give_signs_of_life(
    host: SimulatedHost, policy: Path
) -> None:
    signs: list[str] = []
    with host.runtime().adapters() as opened:
        adapters = replace(opened, timeouts=Beating())
        targets, planned = replan(adapters, host_policy(policy, host.runtime()))
        context = RequestContext(alive=lambda: signs.append("alive"))
        report = apply(adapters, targets, planned, context)
    assert not report.checked[0].verified
    assert len(signs) == 2, "before the assignment, and while its guest is waited for"


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [
        ("0", 10, 0),
        ("18446744073709551615", 10, MAX_NUMBER),
        ("ffffffffffffffff", 16, MAX_NUMBER),
        ("1f", 16, 31),
        ("18446744073709551616", 10, None),
        ("1" * 5000, 10, None),
        ("0" * 5000, 16, None),
        ("1f", 10, None),
        ("", 10, None),
        (None, 10, None),
        *((text, 10, None) for text in ("+1", "-1", " 1", "1 ", "1_0")),
        ("\N{SUPERSCRIPT TWO}", 10, None),
        ("\N{ARABIC-INDIC DIGIT ONE}", 10, None),
    ],
)
def test_a_number_from_outside_is_plain_and_bounded(
    text: str | None, base: int, value: int | None
) -> None:
    assert number(text, base) == value


def test_libvirts_xml_has_numbers_in_both_bases() -> None:
    assert [c_number(text) for text in ("0x1F", "31", "0x", "x1", "0x0x1")] == [
        31, 31, None, None, None,
    ]  # fmt: skip
