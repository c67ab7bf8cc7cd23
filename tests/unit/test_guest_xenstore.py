"""The channel through xenstore: the real helper against nodes that are files, and guests that lie."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.errors import GuestSilentError
from cede.guest import probe
from cede.guest.channels.xenstore_channel import XenstoreChannel
from cede.model.pci import Address
from sim.passing_time import SimulatedTime
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOT = Address.parse("0000:00:03.0")
HELPER = Path(__file__).parents[2] / "contrib/guest/cede-guest"
THERE = "Slot:\t0000:00:03.0\nVendor:\t8086\nDevice:\t10d3\nDriver:\te1000e\n\n"


class Files:
    """A guest's `data` as a folder, for cede on one side and the helper on the other."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read_data(self, _domid: int, name: str) -> bytes | None:
        try:
            return (self.root / "data" / name).read_bytes()
        except OSError:
            return None

    def write_data(self, _domid: int, name: str, value: bytes) -> None:
        path = self.root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_bytes(value)
        path.with_suffix(".new").rename(path)

    def remove_data(self, _domid: int, name: str) -> None:
        shutil.rmtree(self.root / "data" / name, ignore_errors=True)


TOOLS = {
    "xenstore-read": 'cat "$ROOT/$1" 2>/dev/null',
    "xenstore-write": (
        'while [ "$#" -gt 0 ]; do mkdir -p "$ROOT/${1%/*}"; printf %s "$2" > "$ROOT/.$$";'
        ' mv "$ROOT/.$$" "$ROOT/$1"; shift 2; done'
    ),
    "xenstore-watch": "while echo changed; do sleep 0.05; done",
    "lspci": 'cat "$ROOT/lspci"',
}


@pytest.fixture(params=["dash", "bash --posix"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    """A running helper, in one shell and in another."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "lspci").write_text(THERE)
    environment = {**os.environ, "ROOT": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [*request.param.split(), HELPER], env=environment, start_new_session=True
    ) as running:
        yield Files(tmp_path)
        os.killpg(running.pid, signal.SIGKILL)


def test_the_guests_helper_probes_with_the_same_command_as_every_channel(
    request: pytest.FixtureRequest,
) -> None:
    before, line, after = re.split(r"(?<=writes it\):\n)( {4}.*\n)(?=}\n)", HELPER.read_text())
    wanted = f"    {probe.command(SLOT).replace(str(SLOT), '$slot')}\n"
    if request.config.getoption("--regenerate-golden"):
        HELPER.write_text(before + wanted + after)
    else:
        assert line == wanted


def test_the_helper_reports_what_it_sees_and_nothing_stays_behind(guest: Files) -> None:
    for _ in range(2):
        assert probe.parse(XenstoreChannel(guest, 1).probe(SLOT, 20), SLOT).whole
        assert guest.read_data(1, "cede/request") is None
        assert not (guest.root / "data/cede/answer").exists()


def test_an_answer_of_many_pieces_comes_whole(guest: Files) -> None:
    lines = [f"{n} \\x41 %s $(id) 'quoted' -n {'x' * n}" for n in range(100)]
    (guest.root / "lspci").write_text("\n".join(lines) + "\n")
    said = XenstoreChannel(guest, 1).probe(SLOT, 20).splitlines()
    assert [line.strip("|") for line in said if "quoted" in line] == lines


def test_an_answer_without_end_is_no_answer(guest: Files) -> None:
    (guest.root / "lspci").write_text("x" * 70_000)
    with raises(GuestSilentError, "answer-incomplete"):
        XenstoreChannel(guest, 1).probe(SLOT, 20)


@pytest.mark.parametrize(
    "request_text",
    [
        "0123456789abcdef $(touch hacked)",
        "0123456789abcdef 0000:00:03.0;touch hacked",
        "0123456789abcdef 0000:00:03.0 x",
        "0123456789abcde/ 0000:00:03.0",
        "../../x9abcdef00 0000:00:03.0",
        "0123456789abcdef",
        "",
    ],
)
def test_a_request_of_another_shape_is_not_answered(guest: Files, request_text: str) -> None:
    guest.write_data(1, "cede/request", request_text.encode())
    with pytest.raises(GuestSilentError):  # a good one comes too late for it
        XenstoreChannel(_Unasked(guest), 1).probe(SLOT, 0.5)
    assert not (guest.root / "data/cede/answer").exists()
    assert not list(guest.root.rglob("hacked"))


class _Unasked:
    """The same nodes, where cede's own writes and removals are lost."""

    def __init__(self, files: Files) -> None:
        self.read_data = files.read_data

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """Lost."""

    def remove_data(self, domid: int, name: str) -> None:
        """Lost."""


class Liar:
    """A guest that answers a request as it likes: `says` maps a number to the nodes that it writes."""

    def __init__(self, says: Callable[[str], dict[str, bytes]]) -> None:
        self._says = says
        self.nodes: dict[str, bytes] = {}
        self.time = SimulatedTime(shortest=0.0)

    def read_data(self, _domid: int, name: str) -> bytes | None:
        return self.nodes.get(name)

    def write_data(self, _domid: int, name: str, value: bytes) -> None:
        self.nodes[name] = value
        self.nodes |= self._says(value.split()[0].decode())

    def remove_data(self, _domid: int, name: str) -> None:
        self.nodes = {n: v for n, v in self.nodes.items() if not n.startswith(name)}

    def look(self, seconds: float = 10.0) -> str:
        clock = self.time.clock
        channel = XenstoreChannel(self, 1, clock=clock.monotonic, sleep=clock.sleep)
        return channel.probe(SLOT, seconds)


HEX = THERE.encode().hex().encode()


def answer(number: str, pieces: list[bytes], end: bytes | None = None) -> dict[str, bytes]:
    nodes = {f"cede/answer/{number}/{index}": piece for index, piece in enumerate(pieces)}
    return {**nodes, f"cede/answer/{number}/end": str(len(pieces)).encode() if end is None else end}


def test_a_sound_answer_is_read() -> None:
    assert Liar(lambda number: answer(number, [HEX])).look() == THERE
    assert Liar(lambda number: answer(number, [])).look() == ""


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ([HEX], b"2"),
        ([HEX], b"-1"),
        ([HEX], b"1\n"),
        ([HEX], b"too long"),
        ([HEX], b"9999"),
        ([HEX], b"129"),
        ([HEX], b"\xff"),
        ([HEX[:-1]], None),
        ([HEX.upper()], None),
        ([HEX + b" "], None),
        ([b""], None),
        ([HEX, HEX], None),
        ([b"41" * 513], None),
    ],
)
def test_an_answer_that_isnt_whole_is_none(pieces: list[bytes], end: bytes | None) -> None:
    liar = Liar(lambda number: answer(number, pieces, end))
    with raises(GuestSilentError, "answer-incomplete"):
        liar.look()
    assert liar.nodes == {}


def test_an_answer_to_another_question_is_not_read() -> None:
    liar = Liar(lambda _: answer("0123456789abcdef", [HEX]))
    liar.nodes = answer("fedcba9876543210", [HEX])
    with raises(GuestSilentError, "no-answer"):
        liar.look()
    assert liar.nodes == {}
    assert liar.time.elapsed == pytest.approx(10.0, abs=0.1)


def test_a_helper_that_missed_the_request_is_reported_again() -> None:
    asked: list[str] = []

    def says(number: str) -> dict[str, bytes]:
        asked.append(number)
        return answer(number, [HEX]) if len(asked) == 2 else {}

    assert Liar(says).look() == THERE
    assert asked[0] == asked[1]


def test_escapes_dont_come_through() -> None:
    said = b"\x1b[31mred\x07\r\n".hex().encode()
    assert Liar(lambda number: answer(number, [said])).look() == "red\n"


@given(st.lists(st.binary(max_size=30), max_size=4), st.binary(max_size=4))
def test_whatever_is_in_the_nodes_it_is_an_answer_or_silence(
    pieces: list[bytes], end: bytes
) -> None:
    liar = Liar(lambda number: answer(number, pieces, end))
    try:
        said = liar.look()
    except GuestSilentError:
        said = ""
    assert re.fullmatch(r"[\n\t -~]*", said)
    assert liar.nodes == {}
