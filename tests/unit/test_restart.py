"""A guest is shut down as it would itself, and never forced."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cede.errors import TransientError, UnsafeError, WorldMovedError
from cede.services.verification import restart
from unit.raises import raises

if TYPE_CHECKING:
    from sim.in_files import SimulatedHost


def test_it_is_started_when_it_is_off(host: SimulatedHost) -> None:
    domain = host.libvirt.domains()[0]
    restart(host.adapters(), domain)
    assert host.journal == ["shut-down pv1", "start pv1"]
    assert host.libvirt.domains()[0].running


def test_one_that_does_not_listen_keeps_running(host: SimulatedHost) -> None:
    host.deaf = True
    with raises(TransientError, "shutdown-timeout", "pv1"):
        restart(host.adapters(), host.libvirt.domains()[0])
    assert host.journal == ["shut-down pv1"]


def test_one_that_would_be_gone_is_not_touched(host: SimulatedHost) -> None:
    with raises(UnsafeError, "domain-transient"):
        restart(host.adapters(), replace(host.libvirt.domains()[0], persistent=False))
    assert host.journal == []


def test_one_that_is_off_is_not_started(host: SimulatedHost) -> None:
    host.happens("destroy pv1")
    with raises(WorldMovedError, "domain-not-running", "pv1"):
        restart(host.adapters(), host.libvirt.domains()[0])
    assert host.journal == []
