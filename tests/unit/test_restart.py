"""A guest is shut down as it would itself, forced only when that is asked for, and missed at once if it stays away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.domain_xml import document
from cede.errors import NOT_STARTED, GuestSilentError, PermanentError, UnsafeError
from cede.executor.restart import restart
from cede.model.actions import RestartDomain
from cede.model.pci import Address
from cede.model.policy import Place, Window
from unit.raises import raises

if TYPE_CHECKING:
    from sim.in_files import SimulatedHost

PLACE = Place(file="policy.yaml", line=1, column=1)
MONDAY, TUESDAY, SUNDAY = 0, 1, 6


def of(host: SimulatedHost, *, force: bool = False) -> RestartDomain:
    domid = host.guests["pv1"].domid
    assert domid is not None
    return RestartDomain(domain="pv1", domid=domid, addresses=(), seconds=120, force=force)


def test_it_is_started_when_it_is_off(host: SimulatedHost) -> None:
    restart(host.adapters(), of(host))
    assert host.journal == ["shut-down pv1", "start pv1"]
    assert host.libvirt.domains()[0].running


def test_one_that_does_not_listen_keeps_running(host: SimulatedHost) -> None:
    host.deaf = True
    with raises(GuestSilentError, "shutdown-timeout", "pv1"):
        restart(host.adapters(), of(host))
    assert host.journal == ["shut-down pv1"]


def test_one_that_does_not_listen_is_forced_off_only_when_asked_for(host: SimulatedHost) -> None:
    host.deaf = True
    restart(host.adapters(), of(host, force=True))
    assert host.journal == ["shut-down pv1", "destroy pv1", "start pv1"]


def test_one_that_would_be_gone_is_not_touched(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters, action = host.adapters(), of(host)
    xml = host.guests["pv1"].live
    assert xml is not None
    transient = document.domain(xml, None)
    monkeypatch.setattr(type(adapters.libvirt), "domain", lambda _self, _name: transient)
    with raises(UnsafeError, "domain-transient"):
        restart(adapters, action)
    assert host.journal == []


def test_what_was_restarted_meanwhile_is_left_alone(host: SimulatedHost) -> None:
    action = of(host)
    host.happens("reboot pv1")
    restart(host.adapters(), action)
    assert host.journal == []


def test_one_that_is_off_by_now_is_started(host: SimulatedHost) -> None:
    action = of(host)
    host.happens("destroy pv1")
    restart(host.adapters(), action)
    assert host.journal == ["start pv1"]


def test_one_that_does_not_come_back_is_an_error_at_once(host: SimulatedHost) -> None:
    action, guest = of(host), host.guests["pv1"]
    guest.config = document.with_hostdev(
        guest.config, Address.parse("0000:01:00.0"), "ua-cede-nic0"
    )
    with raises(PermanentError, NOT_STARTED, "pv1"):
        restart(host.adapters(), action)


@pytest.mark.parametrize(
    ("begin", "end", "days", "weekday", "time", "is_open"),
    [
        (120, 240, (MONDAY,), MONDAY, 120, True),
        (120, 240, (MONDAY,), MONDAY, 240, False),
        (120, 240, (MONDAY,), TUESDAY, 120, False),
        (1380, 60, (SUNDAY,), SUNDAY, 1380, True),
        (1380, 60, (SUNDAY,), MONDAY, 59, True),
        (1380, 60, (SUNDAY,), MONDAY, 60, False),
        (1380, 60, (SUNDAY,), SUNDAY, 30, False),
        (0, 1440, tuple(range(7)), TUESDAY, 1439, True),
    ],
)
def test_the_window_is_open_from_its_begin_to_its_end_also_past_midnight(
    begin: int, end: int, days: tuple[int, ...], weekday: int, time: int, is_open: bool
) -> None:
    window = Window(begin=begin, end=end, days=days, place=PLACE)
    assert window.open_at(weekday, time) is is_open
