"""The parts of the lab that need no QEMU: what a machine must have, what is half built, what a snapshot lacks."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

from xenlab import prerequisites, qemu, unsaved
from xenlab.errors import LabError
from xenlab.machine import BRIDGES, DEVICES
from xenlab.store import Recipe, Store

if TYPE_CHECKING:
    from pathlib import Path

    from xenlab.qmp import Qmp

CARD = "0000:09:00.0"
CARD_SELECTED = 0x80090000


class FakeMonitor:
    """QEMU's monitor with the ports by which configuration space is read and written."""

    def __init__(self) -> None:
        self.selected = 0x80001234
        self.space: dict[int, int] = {}

    def execute(self, command: str, arguments: dict[str, Any]) -> str:
        assert command == "human-monitor-command"
        verb, _, port, *value = arguments["command-line"].split()
        if verb == "i":
            found = self.selected if port == "0xcf8" else self.space.get(self.selected, 0)
            return f"portl[{port}] = {found:08x}\n"
        if port == "0xcf8":
            self.selected = int(value[0], 16)
        else:
            self.space[self.selected] = int(value[0], 16)
        return ""


def test_a_device_that_the_snapshot_lacks_gets_its_addresses_back_and_then_decodes(
    tmp_path: Path,
) -> None:
    before, after = FakeMonitor(), FakeMonitor()
    header = {0x10: 0xFB000008, 0x14: 0x6001, 0x30: 0xFD800000, 0x04: 0x00A00103}
    before.space = {CARD_SELECTED | register: value for register, value in header.items()}
    unsaved.save(cast("Qmp", before), tmp_path / unsaved.FILE)
    unsaved.restore(cast("Qmp", after), tmp_path / unsaved.FILE)
    restored = [
        (key & 0xFF, value) for key, value in after.space.items() if key & ~0xFF == CARD_SELECTED
    ]
    assert dict(restored)[0x10] == 0xFB000008
    assert dict(restored)[0x30] == 0xFD800000
    # last, and without the status bits, which writing would clear
    assert restored[-1] == (0x04, 0x0103)
    # whoever was about to use the ports finds them as they were
    assert (before.selected, after.selected) == (0x80001234, 0x80001234)


def test_each_device_of_the_machine_has_a_place_of_its_own_behind_a_bridge_that_is_there() -> None:
    places = [device.address for device in DEVICES] + [bridge.address for bridge in BRIDGES]
    assert len(set(places)) == len(places)
    behind = {bridge.bus: bridge.id for bridge in BRIDGES}
    assert len(behind) == len(BRIDGES)
    words = " ".join(qemu.arguments(ssh_port=1, restore=False))
    for device in DEVICES:
        bus = int(device.address.split(":")[1], 16)
        slot, function = device.address.split(":")[2].split(".")
        above = behind.get(bus, "pcie.0")
        place = f"bus={above},addr=0x{int(slot, 16):x}.0x{function}"
        assert f"{device.model},id={device.id},{place}" in words


def test_a_machine_without_memory_for_the_lab_is_reported_how_much_it_lacks(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable: 2097152 kB\n")
    with pytest.raises(LabError, match=r"2048 MiB of memory free, and the lab needs 3072 MiB"):
        prerequisites.require_memory(meminfo)
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable: 4194304 kB\n")
    prerequisites.require_memory(meminfo)


def recipe(build: Any, digest: str = "d", needs_mib: int = 1) -> Recipe:  # noqa: ANN401 - any way to build
    return Recipe(kind="qemu", release="trixie", digest=digest, needs_mib=needs_mib, build=build)


def test_what_was_half_downloaded_is_never_taken_for_whole_and_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def breaks_off(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise LabError("the mirror went away")

    with pytest.raises(LabError, match="the mirror went away"):
        store.build_all([recipe(breaks_off)])
    assert not store.has(recipe(breaks_off))
    killed = tmp_path / "qemu-trixie-d.1.tmp"
    killed.mkdir()
    (killed / "half").write_text("half")
    store.build_all([recipe(lambda folder: (folder / "whole").write_text("whole"))])
    assert [path.name for path in (tmp_path / "qemu-trixie-d").iterdir()] == ["whole"]
    assert not killed.exists()


def test_two_that_need_the_same_build_it_once(tmp_path: Path) -> None:
    built = []

    def build(_: Path) -> None:
        built.append(1)
        time.sleep(0.3)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: Store(tmp_path).build_all([recipe(build)]), range(2)))
    assert built == [1]


def test_what_an_earlier_layout_left_is_built_beside_and_removed_in_the_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for old in range(5):
        store.build_all([recipe(lambda _: None, digest=f"old{old}")])
    store.build_all([recipe(lambda _: None, digest="new")])
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert "qemu-trixie-new" in left
    assert "qemu-trixie-old0" not in left


def test_a_disk_without_room_is_reported_before_anything_is_built(tmp_path: Path) -> None:
    def never(_: Path) -> None:
        raise AssertionError("it was built all the same")

    with pytest.raises(LabError, match="and the qemu of trixie needs 1000000000 MiB"):
        Store(tmp_path).build_all([recipe(never, needs_mib=10**9)])


def test_unsaved_headers_are_a_file_of_registers_by_address(tmp_path: Path) -> None:
    unsaved.save(cast("Qmp", FakeMonitor()), tmp_path / unsaved.FILE)
    written = json.loads((tmp_path / unsaved.FILE).read_text())
    assert set(written) == {CARD, "0000:00:17.0"}
