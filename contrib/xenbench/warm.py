"""Measures inside cede what its work is made of; this file runs in dom0, by a python3 that can import cede.

`python3 -P warm.py attach|release|inventory ROUNDS POLICY NAME DOMAIN ADDRESS DRIVER` prints a line of JSON for each
round, in seconds. The first round of `attach` begins when the process was started, with Python's own start and all
imports; the others find everything imported, as in the agent.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cede.adapters.composition import host_runtime, open_adapters
from cede.adapters.libvirt.connection import Libvirt
from cede.cli.main import main as cede_main
from cede.guest.channels.console_channel import ConsoleChannel
from cede.model.pci import Address
from cede.services.observe import observe
from cede.util.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters import ports
    from cede.adapters.runtime import LibvirtAccess, Runtime

VIRSH = ["virsh", "-q", "-c", "xen:///system"]
# libvirt hands these to libxl, and waits for it
BY_LIBXL = frozenset({"plug", "unplug"})
BY_LIBVIRT = frozenset(
    {
        "domains",
        "node_devices",
        "domain",
        "running",
        "bind_to_pciback",
        "reattach",
        "redefine",
        "persistent_xml",
    }
)
BY_XL = frozenset({"detach", "assignable_remove"})
HOSTDEV = """\
<hostdev mode='subsystem' type='pci' managed='no'><driver name='xen'/><source>
<address domain='{0.segment}' bus='{0.bus}' slot='{0.slot}' function='{0.function}'/></source></hostdev>
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
    """Sums the time that cede waits for libvirt, for libxl and for the guest."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.reset()
        self.runtime = replace(
            host_runtime(), open_adapters=self._opened, clock=Clock(sleep=self._awaited)
        )
        run = ConsoleChannel.run

        def answered(asked: ConsoleChannel, command: str, seconds: float) -> str:
            with self.spent("guest"):
                return run(asked, command, seconds)

        setattr(ConsoleChannel, "run", answered)  # noqa: B010 - it answers like the one that it stands for

    def reset(self) -> None:
        """Begin again."""
        self.parts = dict.fromkeys(("libvirt", "libxl", "guest"), 0.0)

    @contextmanager
    def spent(self, part: str) -> Iterator[None]:
        """Add what the block takes to a part."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.parts[part] += time.monotonic() - started

    @contextmanager
    def _opened(self, runtime: Runtime, access: LibvirtAccess) -> Iterator[ports.Adapters]:
        with open_adapters(runtime, access, connect=self._connect) as adapters:
            yield replace(
                adapters,
                xl=cast("ports.Xl", Metered(adapters.xl, self, dict.fromkeys(BY_XL, "libxl"))),
            )

    def _connect(self, runtime: Runtime) -> ports.Libvirt:
        """A connection whose calls are metered; libvirt hangs here for as long as it likes."""
        with self.spent("libvirt"):
            connection = Libvirt(runtime.uri)
        parts = dict.fromkeys(BY_LIBVIRT, "libvirt") | dict.fromkeys(BY_LIBXL, "libxl")
        return cast("ports.Libvirt", Metered(connection, self, parts))

    def _awaited(self, seconds: float) -> None:
        """A pause in which cede waits for the guest to find its new device."""
        time.sleep(seconds)
        self.parts["guest"] += seconds


class Metered:
    """An adapter, with the time of the calls that `parts` names."""

    def __init__(self, adapter: object, meter: Meter, parts: dict[str, str]) -> None:
        self._adapter, self._meter, self._parts = adapter, meter, parts

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the adapter has it
        """The method of that name."""
        call = getattr(self._adapter, name)
        if name not in self._parts:
            return call

        def metered(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - as the call
            with self._meter.spent(self._parts[name]):
                return call(*arguments, **named)

        return metered


class Bench:
    """What is asked for, of one device."""

    def __init__(self, policy: str, name: str, domain: str, address: str, driver: str) -> None:
        self._policy, self._name, self._domain = policy, name, domain
        self._address, self._driver = address, driver
        self._meter = Meter()

    def inventory(self, _: int) -> list[dict[str, Any]]:
        """One observation, and the same asked of virsh in one session."""

        def look() -> None:
            with self._meter.runtime.adapters() as adapters:
                observe(adapters)

        names = subprocess.run(
            [*VIRSH, "list", "--name"], check=True, capture_output=True, text=True
        ).stdout.split()
        dumps = "; ".join(f"dumpxml {name}" for name in names)
        return [{"cede": timed(look), "virsh": timed(lambda: virsh(f"nodedev-list; {dumps}"))}]

    def attach(self, number: int) -> list[dict[str, Any]]:
        """A verified attach; where everything is imported, also of what `virsh detach-device` took."""
        started = float(os.environ.get("XENBENCH_STARTED", time.monotonic()))
        begun = time.monotonic() if number else started
        found = [self._verified("warm process" if number else "command", begun)]
        if number:
            with tempfile.NamedTemporaryFile("w", suffix=".xml") as element:
                element.write(HOSTDEV.format(Address.parse(self._address)))
                element.flush()
                virsh("detach-device", self._domain, element.name, "--live")
            found.append(self._verified("warm process, put back", time.monotonic()))
        self._cede("release", self._name)
        return found

    def release(self, _: int) -> list[dict[str, Any]]:
        """cede's release, and the commands that the administrator would give."""
        self._apply()
        own = timed(lambda: self._cede("release", self._name))
        self._apply()
        script = Path(__file__).with_name("scripts") / "release_virsh.sh"
        argv = ["bash", str(script), self._domain, self._address, self._driver]
        by_hand = timed(lambda: subprocess.run(argv, check=True, capture_output=True))
        self._cede("release", self._name)
        return [{"cede": own, "by hand": by_hand}]

    def _verified(self, by: str, begun: float) -> dict[str, Any]:
        self._meter.reset()
        self._apply()
        whole = time.monotonic() - begun
        parts = dict(self._meter.parts)
        parts["cede"] = max(0.0, whole - sum(parts.values()))
        rounded = {name: round(seconds, 4) for name, seconds in parts.items()}
        work = "breakdown of a verified attach"
        return {"work": work, "by": by, "seconds": round(whole, 4), "parts": rounded}

    def _apply(self) -> None:
        self._cede("apply", "--yes")

    def _cede(self, *argv: str) -> None:
        """A command of cede in this process, which has to end with 0."""
        status: object = None
        with redirect_stdout(io.StringIO()) as said:
            try:
                cede_main(["--no-agent", *argv, "-f", self._policy], self._meter.runtime)
            except SystemExit as ended:
                status = ended.code
        if status != 0:
            sys.exit(f"cede {' '.join(argv)} ended with {status}:\n{said.getvalue()}")


def main() -> None:
    """Measure what was asked, and print it."""
    what, rounds, *words = sys.argv[1:]
    bench = Bench(*words)
    measure = {"inventory": bench.inventory, "attach": bench.attach, "release": bench.release}[what]
    for number in range(int(rounds)):
        for found in measure(number):
            print(json.dumps(found), flush=True)


main()
