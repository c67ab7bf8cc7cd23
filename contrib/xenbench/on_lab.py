"""The lab as the host that is measured: pristine, with this checkout's cede, and three more guests like pv1."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xenlab.lab import Lab

from .courses import Course, Given, Setting, behind_its_back, breakdown, courses, policies
from .job import RUNNER, lines_of

FOLDER = "/run/cede-bench"
# behind root ports of their own, and behind a switch
NICS = tuple(f"0000:{bus:02x}:00.0" for bus in (0x01, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0D, 0x0E))
DOMAINS = ("pv1", "bench2", "bench3", "bench4")
GIVEN = tuple(
    Given(device=nic, domain=DOMAINS[number % len(DOMAINS)], driver="e1000e")
    for number, nic in enumerate(NICS)
)
SETTING = Setting(given=GIVEN, folder=FOLDER)
SOCKET = "/run/cede/cede.sock"

_PACKAGE = Path(__file__).parent
_LONG = 600
_VIRSH = "virsh -q -c xen:///system"
# the HVM guest only takes time from the others
_GUESTS = f"""\
modprobe xen-pciback
{_VIRSH} suspend hvm1
for name in "$@"; do
    {_VIRSH} dumpxml --inactive pv1 | sed "/<uuid>/d; s/pv1/$name/" > /tmp/guest.xml
    {_VIRSH} define /tmp/guest.xml
    {_VIRSH} start $name
done
"""
_START_AGENT = f"""\
mkdir -p /etc/cede
cp {FOLDER}/nothing.yaml /etc/cede/policy.yaml
for unit in cede.socket cede-ro.socket; do
    if [ -e /etc/systemd/system/$unit ]; then systemctl start $unit; fi
done
systemctl reset-failed cede.service 2> /dev/null || true
systemctl start cede.service
sleep 3
"""
_STOP_AGENT = (
    "systemctl -q stop cede.socket cede-ro.socket cede.service; rm -f /etc/cede/policy.yaml"
)
AGENT = {
    "start": ["sh", "-ec", _START_AGENT],
    "stop": ["sh", "-c", _STOP_AGENT],
    "unit": "cede.service",
}


class LabBench:
    """One lab as it is measured."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def prepare(self) -> None:
        """Bring it from the pristine snapshot to where the rounds begin. Raises LabError."""
        self._lab.reset()
        self._lab.push()
        self.send()
        extra = [name for name in DOMAINS if name != "pv1"]
        self._lab.succeed(["sh", "-ec", _GUESTS, "sh", *extra], timeout=_LONG)
        script = (Path(__file__).parents[1] / "xenlab/await_prompts.py").read_text()
        prompts = [f"{name}={name}:~# " for name in extra]
        self._lab.dom0().succeed(["python3", "-", *prompts], stdin=script, timeout=_LONG)
        units = self._lab.checkout / "contrib/systemd"
        for unit in [*units.glob("cede*.service"), *units.glob("cede*.socket")]:
            self._write(f"/etc/systemd/system/{unit.name}", unit.read_text())
        self._lab.succeed(
            ["sh", "-ec", "getent group cede || groupadd --system cede; systemctl daemon-reload"]
        )

    def send(self, setting: Setting = SETTING) -> None:
        """Send this package and the policies to dom0."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(_PACKAGE, "xenbench", filter=_without_compiled)
        self._lab.dom0().succeed(
            ["sh", "-ec", f"mkdir -p {FOLDER}; tar -xf - -C {FOLDER}"], stdin=packed.getvalue()
        )
        for name, text in policies(setting).items():
            self._write(setting.policy(name), text)

    def has_agent(self) -> bool:
        """Whether `cede run` has a socket to be asked at."""
        self._lab.succeed(AGENT["start"])
        found = self._lab.exec(["test", "-S", SOCKET])
        self._lab.exec(AGENT["stop"])
        return found.returncode == 0

    def measure(
        self, rounds: int, only: Sequence[str], say: Callable[[str], None]
    ) -> Iterator[dict[str, Any]]:
        """Measure all, or the courses whose names begin with one of `only`."""
        agent = self.has_agent()
        if not agent:
            yield {"note": "`cede run` has no socket here: no command asked an agent"}
        all_courses = (*courses(SETTING, agent=agent), breakdown(SETTING), behind_its_back(SETTING))
        yield from self.run(
            [course for course in all_courses if not only or course.name.startswith(tuple(only))],
            rounds,
            say,
        )

    def run(
        self, picked: Sequence[Course], rounds: int, say: Callable[[str], None]
    ) -> Iterator[dict[str, Any]]:
        """Run those courses in dom0."""
        argv = self._lab.dom0().ssh(["env", f"PYTHONPATH={FOLDER}", *RUNNER])
        yield from lines_of(argv, picked, rounds=rounds, folder=FOLDER, agent=AGENT, say=say)

    def _write(self, path: str, text: str) -> None:
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        self._lab.dom0().succeed(["sh", "-ec", script, "sh", path], stdin=text)


def where(release: str, rounds: int, load: tuple[float, float]) -> str:
    """The host in words, with the load of this machine in the beginning and in the end."""
    return (
        f"Measured on the lab (`contrib/lab`, Debian {release} in dom0): a Xen host emulated by QEMU, with one"
        f" processor and 8 domains, in {rounds} rounds in which all take turns. Load of the emulating machine, with"
        f" {os.cpu_count()} processors: {load[0]:.1f} before, {load[1]:.1f} after."
    )


def _without_compiled(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry
