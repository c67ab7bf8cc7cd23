"""Sockets that systemd hands over: found by their names, and nothing else is touched."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.systemd_sockets import listening_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = 700


@pytest.fixture
def handed(tmp_path: Path) -> Iterator[None]:
    """Two listening sockets, one that doesn't listen, and a file, from FIRST on."""
    opened: list[socket.socket] = []
    for place in range(3):
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(tmp_path / str(place)))
        if place < 2:
            made.listen()
        os.dup2(made.fileno(), FIRST + place)
        opened.append(made)
    file = os.open("/dev/null", os.O_RDONLY)
    os.dup2(file, FIRST + 3)
    yield
    os.close(file)
    for made in opened:
        made.close()
    for place in range(4):
        try:
            os.close(FIRST + place)
        except OSError:
            continue


def environ(**changed: str) -> dict[str, str]:
    names = "cede.socket:cede-ro.socket:other:file"
    return {"LISTEN_PID": "42", "LISTEN_FDS": "4", "LISTEN_FDNAMES": names} | changed


@pytest.mark.usefixtures("handed")
def test_listening_sockets_come_by_name_and_stay_out_of_programs() -> None:
    found = listening_sockets(environ(), pid=42, first=FIRST)
    assert [name for name, _ in found] == ["cede.socket", "cede-ro.socket"]
    assert not any(opened.get_inheritable() for _, opened in found)
    for _, opened in found:
        opened.close()


@pytest.mark.usefixtures("handed")
def test_without_names_they_are_nameless() -> None:
    found = listening_sockets(environ(LISTEN_FDNAMES=""), pid=42, first=FIRST)
    assert [name for name, _ in found] == ["", ""]
    for _, opened in found:
        opened.close()


@pytest.mark.usefixtures("handed")
@pytest.mark.parametrize(
    "wrong", [{"LISTEN_PID": "43"}, {"LISTEN_PID": "x"}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "1000000"}]
)  # fmt: skip
def test_what_is_another_processs_or_no_number_is_left_alone(wrong: dict[str, str]) -> None:
    assert listening_sockets(environ(**wrong), pid=42, first=FIRST) == ()


def test_a_process_that_systemd_did_not_start_has_none() -> None:
    assert listening_sockets({}) == ()
