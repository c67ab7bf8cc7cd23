"""Who may not ask the kernel whether a disk is held, and what that means."""

from __future__ import annotations

import errno
import os

import pytest

from cede.adapters.linux.host_uses.nodes import DeviceNumber, Nodes
from cede.errors import PermanentError
from unit.raises import raises

DISK, NUMBER = "/dev/sda", "8:0"


class OneDisk(Nodes):
    """A host with a disk, where this machine has none."""

    def number(self, path: str) -> DeviceNumber | None:
        return DeviceNumber(block=True, number=NUMBER) if path == DISK else None


def refusing(monkeypatch: pytest.MonkeyPatch, why: int) -> OneDisk:
    def refuse(path: str, _flags: int) -> int:
        raise OSError(why, os.strerror(why), path)

    monkeypatch.setattr(os, "open", refuse)
    return OneDisk()


def test_a_disk_that_a_control_group_keeps_from_cede_is_not_taken_for_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = refusing(monkeypatch, errno.EPERM)
    with raises(PermanentError, "holders-unknown"):
        nodes.held(DISK, NUMBER)


@pytest.mark.parametrize(("why", "held"), [(errno.EBUSY, True), (errno.EACCES, False)])
def test_only_who_is_busy_is_held(monkeypatch: pytest.MonkeyPatch, why: int, held: bool) -> None:
    assert refusing(monkeypatch, why).held(DISK, NUMBER) is held
