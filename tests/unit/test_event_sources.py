"""The adapters that wake the daemon, over real sockets and the real kernel where that is possible."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.libvirt.domain_events import LibvirtEvents
from cede.adapters.linux.file_changes import FileChanges
from cede.adapters.linux.systemd_notify import Notify
from cede.adapters.linux.uevents import Uevents, words
from cede.adapters.xen.xenstore import BACKEND, WATCHED, XenstoreWatch
from cede.adapters.xen.xenstore_client import Operation, XenstoreClient
from cede.errors import UnreachableError
from cede.policy.policy_files import fingerprint
from unit.conftest import descriptors
from unit.fake_xenstored import FakeXenstored, packet
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.ports import Source


def reported(source: Source, seconds: float = 5.0) -> list[str]:
    """What the source tells once something is there to read."""
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    assert poll.poll(seconds * 1000), "nothing came"
    return list(source.read())


def silent(source: Source) -> bool:
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    return not poll.poll(0)


# -- xenstore


@pytest.fixture
def watch(xenstored: FakeXenstored) -> Iterator[XenstoreWatch]:
    made = XenstoreWatch(XenstoreClient(xenstored.path))
    yield made
    made.close()


def settled(watch: XenstoreWatch) -> None:
    watch.open()
    while not silent(watch):
        assert list(watch.read()) == [], "that a watch was set is no event"


def test_xenstore_reports_of_devices_and_of_domains_that_come_and_go(
    watch: XenstoreWatch, xenstored: FakeXenstored
) -> None:
    settled(watch)
    assert xenstored.asked == [(Operation.WATCH, f"{path}\0{path}\0".encode()) for path in WATCHED]
    for path, token in (
        (f"{BACKEND}/1/0/state", BACKEND),
        ("@introduceDomain", "@introduceDomain"),
        ("@releaseDomain", "@releaseDomain"),
    ):
        xenstored.send(xenstored.event(path, token))
    found: list[str] = []
    while len(found) < 3:
        found += reported(watch)
    assert found[0] == "backend/pci/1/0/state"
    assert len({*found}) == 3


def test_an_event_that_comes_in_pieces_is_put_together(
    watch: XenstoreWatch, xenstored: FakeXenstored
) -> None:
    settled(watch)
    found: list[str] = []
    for byte in xenstored.event(f"{BACKEND}/1", BACKEND):
        xenstored.send(bytes([byte]))
        found += reported(watch)
    assert found == ["backend/pci/1"]


def test_a_xenstored_that_hangs_up_is_unreachable_until_it_is_opened_again(
    watch: XenstoreWatch, xenstored: FakeXenstored
) -> None:
    settled(watch)
    xenstored.hang_up()
    with raises(UnreachableError, "xenstore-unreachable", "hung up"):
        reported(watch)
    settled(watch)
    xenstored.send(xenstored.event(f"{BACKEND}/1", BACKEND))
    assert reported(watch) == ["backend/pci/1"]


def test_a_refused_watch_is_reported(watch: XenstoreWatch, xenstored: FakeXenstored) -> None:
    xenstored.answer = lambda _, request, __: packet(Operation.ERROR, b"EACCES\0", request)
    with raises(UnreachableError, "watch-refused", "EACCES"):
        watch.open()


@pytest.mark.parametrize(
    "said",
    [
        packet(Operation.WATCH_EVENT, b"", length=5000),
        packet(Operation.READ, b"nobody asked"),
        packet(Operation.ERROR, b"EIO\0"),
    ],
)
def test_nonsense_instead_of_an_event_is_unreachable(
    watch: XenstoreWatch, xenstored: FakeXenstored, said: bytes
) -> None:
    settled(watch)
    xenstored.send(said)
    with raises(UnreachableError, "xenstore-unreachable"):
        reported(watch)


def test_a_storm_of_events_that_nobody_reads_is_kept_short(
    xenstored: FakeXenstored,
) -> None:
    client = XenstoreClient(xenstored.path)
    client.watch([BACKEND])
    storm = xenstored.event(BACKEND, BACKEND) * 10_000
    xenstored.answer = lambda operation, request, payload: (
        storm + (xenstored.properly(operation, request, payload) or b"")
    )
    assert client.ask(Operation.READ, ["/none"]) == [None]
    assert len(list(client.events())) < 5000
    client.close()


def test_nobody_at_the_socket_is_unreachable_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    adapter = XenstoreWatch(XenstoreClient(tmp_path / "none"))
    with raises(UnreachableError, "xenstore-unreachable") as caught:
        adapter.open()
    assert caught.value.remedy
    adapter.close()
    assert descriptors() <= before


# -- the kernel


def uevent(action: str, subsystem: str = "pci", slot: str = "0000:01:00.0") -> bytes:
    fields = {
        "ACTION": action,
        "DEVPATH": f"/devices/pci0000:00/{slot}",
        "SUBSYSTEM": subsystem,
        "PCI_SLOT_NAME": slot,
    }
    head = f"{action}@{fields['DEVPATH']}"
    return b"".join(
        part.encode() + b"\0" for part in (head, *(f"{k}={v}" for k, v in fields.items()))
    )


@pytest.mark.parametrize(
    ("message", "address"),
    [
        (uevent("add"), "0000:01:00.0"),
        (uevent("remove"), "0000:01:00.0"),
        (uevent("bind"), "0000:01:00.0"),
        (uevent("unbind"), "0000:01:00.0"),
        (uevent("change"), ""),
        (uevent("add", subsystem="block"), ""),
        (b"libudev\0\xfe\xed", ""),
        (b"", ""),
    ],
)
def test_a_uevent_reports_of_a_pci_device_or_of_nothing(message: bytes, address: str) -> None:
    assert words(message).partition(" ")[0] == address


def test_each_uevent_of_a_device_has_its_own_words() -> None:
    assert len({words(uevent(action)) for action in ("add", "remove", "bind", "unbind")}) == 4


UEVENT_PIECES = st.sampled_from(
    [b"add@/devices/x", b"ACTION=add", b"ACTION=", b"ACTION=\xff", b"SUBSYSTEM=pci", b"SUBSYSTEM=block",
     b"PCI_SLOT_NAME=0000:01:00.0", b"PCI_SLOT_NAME=\x1b[2J", b"PCI_SLOT_NAME", b"=", b""]
)  # fmt: skip


@given(st.lists(UEVENT_PIECES | st.binary(max_size=20), max_size=8))
def test_whatever_a_uevent_says_only_a_pci_devices_is_reported(pieces: list[bytes]) -> None:
    said = words(b"\0".join(pieces))
    assert not said or b"SUBSYSTEM=pci" in pieces


def test_what_another_process_sends_as_a_uevent_is_dropped() -> None:
    adapter = Uevents()
    adapter.open()
    try:
        assert adapter._socket is not None
        port = adapter._socket.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15) as liar:
            liar.bind((0, 0))
            try:
                liar.sendto(uevent("add"), (port, 0))
            except OSError:
                return  # the kernel refuses to carry it: as well
        assert adapter.read() == []
    finally:
        adapter.close()


def test_the_kernels_own_events_are_heard() -> None:
    knob = Path("/sys/class/net/lo/uevent")
    if not os.access(knob, os.W_OK):
        knob = Path("/sys/class/mem/null/uevent")
    adapter = Uevents(lambda message: message.split(b"\0")[0].decode())
    adapter.open()
    try:
        try:
            knob.write_text("change")
        except OSError as readonly:
            pytest.skip(f"this machine's sysfs takes no uevent: {readonly}")
        assert any(said.startswith("change@/devices/virtual/") for said in reported(adapter))
    finally:
        adapter.close()


def test_more_events_than_there_is_room_for_trigger_too() -> None:
    answers: list[Any] = [OSError(105, "No buffer space"), None, uevent("add"), BlockingIOError()]

    class FullSocket(Uevents):
        def _receive(self) -> bytes | None:
            answer: bytes | Exception | None = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    missed, came = FullSocket().read()
    assert missed
    assert "0000:01:00.0" in came


# -- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "etc/cede"


@pytest.fixture
def changes(folder: Path) -> Iterator[FileChanges]:
    paths = [folder / "policy.yaml", folder / "policy.d"]
    made = FileChanges(paths, lambda: fingerprint(paths))
    made.open()
    yield made
    made.close()


def drained(changes: FileChanges) -> list[str]:
    found: list[str] = []
    while not silent(changes):
        found += changes.read()
    return found


def test_a_policy_that_comes_where_no_folder_was_is_seen(
    folder: Path, changes: FileChanges
) -> None:
    assert silent(changes)
    folder.parent.mkdir()
    reported(changes)
    folder.mkdir()
    reported(changes)
    (folder / "policy.yaml").write_text("version: 1\n")
    assert reported(changes)


def _written(folder: Path) -> None:
    (folder / "policy.yaml").write_text("version: 2\n")


def _renamed_over(folder: Path) -> None:
    (folder / "new").write_text("version: 2\n")
    (folder / "new").rename(folder / "policy.yaml")


def _added(folder: Path) -> None:
    (folder / "policy.d/10.yaml").write_text("version: 1\n")


def _removed(folder: Path) -> None:
    (folder / "policy.yaml").unlink()


@pytest.mark.parametrize("change", [_written, _renamed_over, _added, _removed])
def test_every_way_to_change_the_policy_is_seen(
    folder: Path, change: Callable[[Path], None]
) -> None:
    (folder / "policy.d").mkdir(parents=True)
    (folder / "policy.yaml").write_text("version: 1\n")
    paths = [folder / "policy.yaml", folder / "policy.d"]
    adapter = FileChanges(paths, lambda: fingerprint(paths))
    adapter.open()
    try:
        change(folder)
        assert drained(adapter)
        (folder / "policy.yaml~").write_text("an editor's own")
        assert drained(adapter) == []
        (folder / "policy.d").rename(folder / "old.d")
        (folder / "policy.d").mkdir()
        drained(adapter)
        (folder / "policy.d/20.yaml").write_text("version: 1\n")
        assert drained(adapter), "a folder made anew is watched too"
    finally:
        adapter.close()


def test_reading_the_policy_is_no_change_of_it(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "policy.yaml").write_text("version: 1\n")
    adapter = FileChanges([folder / "policy.yaml"], lambda: fingerprint([folder / "policy.yaml"]))
    adapter.open()
    try:
        (folder / "policy.yaml").read_text()
        assert silent(adapter)
    finally:
        adapter.close()


# -- libvirt


class TestDriver:
    """libvirt's test driver has real events, to the connection that caused them, but no line that could be cut."""

    __test__ = False

    def __init__(self, uri: str) -> None:
        self._connection = libvirt.open(uri)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - libvirt has no types
        absent = {"setKeepAlive", "registerCloseCallback", "unregisterCloseCallback"}
        return (lambda *_: None) if name in absent else getattr(self._connection, name)


def test_libvirt_reports_of_domains_and_when_it_hangs_up() -> None:
    adapter = LibvirtEvents("test:///default", TestDriver)
    adapter.open()
    try:
        assert adapter._connection is not None
        domain = adapter._connection.lookupByName("test")
        found: list[str] = []
        domain.destroy()
        domain.create()
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "new", None, None, 0)
        while len(found) < 3:
            found += reported(adapter)
        assert [event.split().count("test") for event in found] == [1, 1, 1]
        assert len({*found}) == 3
        # it may be woken once more: an event is told before the sign of it
        assert list(adapter.read()) == []
        adapter._closed(None, 0, None)
        with raises(UnreachableError, "libvirt-unreachable"):
            reported(adapter)
    finally:
        adapter.close()


class LostDriver(TestDriver):
    """As a connection whose daemon was restarted: libvirt drops a callback, and then can't tell the daemon."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.dropped: list[int] = []

    def domainEventDeregisterAny(self, number: int) -> None:  # noqa: N802
        self.dropped.append(number)
        raise libvirt.libvirtError("Cannot write data: Broken pipe")


def test_each_callback_of_a_lost_connection_is_dropped_or_it_would_stay_open() -> None:
    made: list[LostDriver] = []

    def connect(uri: str) -> LostDriver:
        made.append(LostDriver(uri))
        return made[-1]

    adapter = LibvirtEvents("test:///default", connect)
    adapter.open()
    registered = list(adapter._callbacks)
    adapter.close()
    assert made[0].dropped == registered
    assert len(registered) == 2


class Domain:
    def name(self) -> str:
        return "pv1"


def test_every_lifecycle_event_has_its_own_words() -> None:
    adapter = LibvirtEvents("test:///default")
    unknown = 99
    for event in (
        libvirt.VIR_DOMAIN_EVENT_DEFINED,
        libvirt.VIR_DOMAIN_EVENT_STARTED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED,
        unknown,
    ):
        adapter._lifecycle(None, Domain(), event, 0, None)
    said = [adapter._events.get_nowait() for _ in range(4)]
    assert [line.split()[0] for line in said] == ["pv1"] * 4
    assert len({*said}) == 4


def test_a_storm_of_libvirts_events_is_kept_short() -> None:
    adapter = LibvirtEvents("test:///default")
    for _ in range(10_000):
        adapter._metadata(None, Domain(), 0, None, None)
    assert adapter._events.qsize() < 100


def test_a_libvirt_that_does_not_answer_is_unreachable_and_leaves_nothing_open() -> None:
    adapter = LibvirtEvents("test:///nowhere/at/all.xml")
    with pytest.raises(UnreachableError):
        adapter.open()  # its event loop stays
    before = descriptors()
    adapter.close()
    for _ in range(5):
        with pytest.raises(UnreachableError):
            adapter.open()
        adapter.close()
    assert descriptors() <= before


# -- systemd


@pytest.fixture
def service_manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_systemd_is_reported_in_its_own_words(service_manager: socket.socket) -> None:
    adapter = Notify({"NOTIFY_SOCKET": service_manager.getsockname()})
    adapter.ready()
    adapter.reloading()
    adapter.status("1 of 2 in sync;\nnot: nic1")
    adapter.status("1 of 2 in sync;\nnot: nic1")
    adapter.stopping()
    said = [service_manager.recv(1000).decode() for _ in range(4)]
    assert said[0] == "READY=1"
    assert said[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[2:] == ["STATUS=1 of 2 in sync; not: nic1", "STOPPING=1"]


def test_signs_of_life_come_at_most_as_often_as_they_are_waited_for(
    service_manager: socket.socket,
) -> None:
    now = [1000.0]
    environ = {"NOTIFY_SOCKET": service_manager.getsockname(), "WATCHDOG_USEC": "60000000"}
    adapter = Notify(environ, clock=lambda: now[0])
    assert adapter.every == 30.0
    for _ in range(60):
        adapter.alive()
        now[0] += 1
    service_manager.setblocking(False)
    said = []
    try:
        while True:
            said.append(service_manager.recv(100))
    except BlockingIOError:
        pass
    assert said == [b"WATCHDOG=1"] * 4


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "rubbish"}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}],
)
def test_who_is_not_watched_gives_no_signs(environ: dict[str, str]) -> None:
    assert Notify(environ).every is None
    Notify(environ).alive()
    Notify(environ | {"NOTIFY_SOCKET": "/nowhere"}).ready()
