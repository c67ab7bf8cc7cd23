"""Measures in dom0 what cede adds to the calls that it makes; this file is sent to dom0's python3 and runs there.

`python3 - inventory|attach|release ROUNDS POLICY DEVICE` prints one line of JSON for each round, in seconds.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cede.adapters.composition import host_runtime, open_adapters
from cede.adapters.libvirt.connection import Libvirt
from cede.cli.main import cli
from cede.guest.channels.console_channel import ConsoleChannel
from cede.services.observe import observe
from cede.util.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cede.adapters import ports
    from cede.adapters.runtime import LibvirtAccess, Runtime

URI = "xen:///system"
VIRSH = ["virsh", "-q", "-c", URI]
GUESTS = ("pv1", "pv2", "pv3", "hvm1")
CALLS = (
    "domains",
    "node_devices",
    "domain",
    "running",
    "bind_to_pciback",
    "reattach",
    "plug",
    "unplug",
    "redefine",
    "persistent_xml",
)
HOSTDEV = """\
<hostdev mode='subsystem' type='pci' managed='no'><driver name='xen'/>
<source><address domain='0' bus='{bus}' slot='0' function='0'/></source></hostdev>
"""


def timed(call: Callable[[], object]) -> float:
    """How long `call` takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def virsh(*words: str) -> None:
    """One virsh session, which has to succeed."""
    subprocess.run([*VIRSH, *words], check=True, capture_output=True)


class Meter:
    """Sums the time that is spent in libvirt's calls, and in the guest's answers."""

    def __init__(self) -> None:
        self.libvirt = self.guest = 0.0
        self.calls: dict[str, float] = {}
        self.runtime = replace(
            host_runtime(), open_adapters=self._opened, clock=Clock(sleep=self._awaited)
        )
        run = ConsoleChannel.run

        def answered(asked: ConsoleChannel, command: str, seconds: float) -> str:
            started = time.monotonic()
            try:
                return run(asked, command, seconds)
            finally:
                self.guest += time.monotonic() - started

        setattr(ConsoleChannel, "run", answered)  # noqa: B010 - it answers like the one that it stands for

    def _opened(
        self, runtime: Runtime, access: LibvirtAccess
    ) -> AbstractContextManager[ports.Adapters]:
        return open_adapters(runtime, access, connect=self._connect)

    def _connect(self, runtime: Runtime) -> ports.Libvirt:
        """A connection whose calls are metered; libvirt hangs here for as long as it likes."""
        connection = self.metered("open", Libvirt)(runtime.uri)
        return cast("ports.Libvirt", MeteredLibvirt(cast("Libvirt", connection), self))

    def _awaited(self, seconds: float) -> None:
        """A pause in which cede waits for the guest to find its new device."""
        time.sleep(seconds)
        self.guest += seconds

    def metered(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def metered(*arguments: object, **named: object) -> object:
            started = time.monotonic()
            try:
                return call(*arguments, **named)
            finally:
                seconds = time.monotonic() - started
                self.libvirt += seconds
                self.calls[name] = round(self.calls.get(name, 0.0) + seconds, 3)

        return metered

    def reset(self) -> None:
        """Begin again."""
        self.libvirt = self.guest = 0.0
        self.calls = {}


class MeteredLibvirt:
    """The calls of one connection, those in CALLS with their time."""

    def __init__(self, connection: Libvirt, meter: Meter) -> None:
        self._connection = connection
        self._meter = meter

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the connection has it
        """The method of that name."""
        call = getattr(self._connection, name)
        return self._meter.metered(name, call) if name in CALLS else call


METER = Meter()


def cede(*argv: str) -> None:
    """A command of cede in this process, which has to end with 0."""
    with redirect_stdout(io.StringIO()) as said:
        status = cli.main([*argv], standalone_mode=False, obj=METER.runtime)
    assert status == 0, said.getvalue()


def inventory() -> dict[str, Any]:
    """One observation, and the same asked of virsh in one session."""

    def look() -> None:
        with METER.runtime.adapters() as adapters:
            observe(adapters)

    dumps = "; ".join(f"dumpxml {name}" for name in GUESTS)
    return {"cede": timed(look), "virsh": timed(lambda: virsh(f"nodedev-list; {dumps}"))}


def attach(policy: str, device: str) -> dict[str, Any]:
    """A verified attach as a whole, and the part of it that libvirt and the guest took."""
    METER.reset()
    whole = timed(lambda: cede("apply", "--yes", "-f", policy))
    found = {"whole": whole, "libvirt": METER.libvirt, "guest": METER.guest, "calls": METER.calls}
    cede("release", device, "-f", policy)
    return found


def release(policy: str, device: str, bus: int) -> dict[str, Any]:
    """cede's release, and the three commands that the administrator would give."""
    address = f"0000:{bus:02x}:00.0"
    cede("apply", "--yes", "-f", policy)
    own = timed(lambda: cede("release", device, "-f", policy))
    cede("apply", "--yes", "-f", policy)
    element = Path("/tmp/hostdev.xml")
    element.write_text(HOSTDEV.format(bus=bus), encoding="ascii")

    def plain() -> None:
        virsh("detach-device", "pv1", str(element), "--live", "--config")
        subprocess.run(["xl", "pci-assignable-remove", address], check=True, capture_output=True)
        virsh("nodedev-reattach", f"pci_0000_{bus:02x}_00_0")

    by_hand = timed(plain)
    cede("release", device, "-f", policy)
    return {"cede": own, "by hand": by_hand}


def main() -> None:
    """Measure what was asked, and print it."""
    what, rounds, policy, device = sys.argv[1:5]
    for _ in range(int(rounds)):
        if what == "inventory":
            found = inventory()
        elif what == "attach":
            found = attach(policy, device)
        else:
            found = release(policy, device, 1)
        print(json.dumps(found), flush=True)


main()
