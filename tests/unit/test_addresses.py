"""dom0's own IP addresses, as the kernel of the machine that the tests run on tells them."""

from __future__ import annotations

import errno
import fcntl
import os
from errno import EPERM
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux import ip_addresses
from cede.errors import PermanentError
from unit.raises import raises

if TYPE_CHECKING:
    from pathlib import Path

LISTED = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 02 40 00 80   eth0.7
"""


def test_every_address_has_its_interface(tmp_path: Path) -> None:
    (tmp_path / "if_inet6").write_text(LISTED)
    found = ip_addresses.ip_addresses(tmp_path / "if_inet6")
    assert (found["127.0.0.1"], found["::1"], found["fd00::2"]) == ("lo", "lo", "eth0.7")


def test_a_kernel_without_ipv6_has_none(tmp_path: Path) -> None:
    assert ip_addresses.ip_addresses(tmp_path / "if_inet6")["127.0.0.1"] == "lo"


def test_a_label_is_not_taken_for_an_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ip_addresses, "_ipv4", lambda: [(b"eth0:1\0\0", bytes([192, 0, 2, 1]))])
    assert ip_addresses.ip_addresses(tmp_path / "if_inet6") == {"192.0.2.1": "eth0"}


def test_more_addresses_than_were_asked_for_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ip_addresses, "_ASKED_FIRST", 1)
    assert ip_addresses.ip_addresses(tmp_path / "if_inet6")["127.0.0.1"] == "lo"


@pytest.mark.parametrize("said", ["x", "00 01 lo\n", "zz" * 16 + " 01 80 10 80 lo\n"])
def test_what_is_no_list_of_addresses_is_an_error_and_never_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "if_inet6").write_text(said)
    with raises(PermanentError, "addresses-unknown"):
        ip_addresses.ip_addresses(tmp_path / "if_inet6")


def test_a_kernel_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with raises(PermanentError, "addresses-unknown", os.strerror(EPERM)):
        ip_addresses.ip_addresses()
