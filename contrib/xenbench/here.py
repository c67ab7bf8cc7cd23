"""This host as the one that is measured: what is asked before, and where nothing may be done."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .courses import Course, Given, Setting, courses, policies
from .job import RUNNER, lines_of

SOCKET = Path("/run/cede/cede.sock")
_PACKAGES = Path(__file__).parents[1]
_VIRSH = ("virsh", "-q", "-c", os.environ.get("LIBVIRT_DEFAULT_URI", "xen:///system"))
_PROGRAMS = ("cede", "virsh", "xl", "xenstore-ls", "lspci")
_WORK_TO_DO = 4
_PCIBACK = "pciback"
_IFF_UP = 1  # linux/if.h


class NotHereError(Exception):
    """This host, this device or this domain can't be measured with; says why, and what to do."""


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


Run = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


def given(
    devices: Sequence[str],
    domains: Sequence[str],
    *,
    run: Run = _run,
    sys_folder: Path = Path("/sys"),
) -> tuple[Given, ...]:
    """Spread the devices over the domains. Raises NotHereError for what isn't idle in dom0 or doesn't run."""
    if not devices or not domains:
        raise NotHereError("name a device and a domain: --here --device ADDRESS --domain NAME")
    for domain in domains:
        state = run((*_VIRSH, "domstate", domain))
        if state.stdout.strip() != "running":
            said = state.stderr.strip() or f"it is {state.stdout.strip()}"
            raise NotHereError(f"the domain {domain} does not run: {said}")
    found = []
    for number, device in enumerate(devices):
        folder = sys_folder / "bus/pci/devices" / device
        if not folder.is_dir():
            raise NotHereError(f"there is no device {device}: write the address as 0000:01:00.0")
        link = folder / "driver"
        driver = link.readlink().name if link.is_symlink() else ""
        if driver == _PCIBACK:
            raise NotHereError(f"{device} is on pciback: release it first, it has to be dom0's")
        if up := _interfaces_up(folder):
            raise NotHereError(
                f"{', '.join(up)} of {device} is up: set it down, dom0 is to lose it"
            )
        found.append(Given(device=device, domain=domains[number % len(domains)], driver=driver))
    return tuple(found)


def _interfaces_up(device: Path) -> list[str]:
    """Those that would come back without their addresses."""
    interfaces = sorted(device.glob("net/*"))
    return [each.name for each in interfaces if int((each / "flags").read_text(), 16) & _IFF_UP]


def refuse_unfit(setting: Setting, *, run: Run = _run) -> None:
    """Ask `cede plan`, which changes nothing, whether all devices can be given. Raises NotHereError with its words."""
    planned = run((*setting.cede, "plan", "-f", setting.policy("many")))
    if planned.returncode != _WORK_TO_DO:
        raise NotHereError(
            "cede would not give these devices to these domains as they are now:\n"
            + planned.stdout
            + planned.stderr
        )


def question(setting: Setting, rounds: int) -> str:
    """What is going to be done, for the administrator to agree to."""
    pairs = "\n".join(
        f"  {each.device} (driver {each.driver or 'none'}) to {each.domain}"
        for each in setting.given
    )
    asked = (
        "The guest is asked on its console, which needs a root shell there, and gets a few lines typed."
        if setting.asks_guest
        else "No guest is asked."
    )
    return f"""\
This gives devices to running guests and takes them back, {rounds + 1} times by each of cede, virsh and xl:
{pairs}
dom0 loses each device meanwhile, with what it does there (links, addresses). xen-pciback is loaded if it isn't.
{asked} libvirtd's log is turned on for the first round, and set back.
In the end, and after Ctrl-C, everything is as it was. Type yes to begin: """


@contextmanager
def setting(pairs: tuple[Given, ...], *, asks_guest: bool) -> Iterator[Setting]:
    """Return what this host is measured with; its folder, with the policies, lasts as long."""
    folder = Path(tempfile.mkdtemp(prefix="cede-bench-"))
    try:
        (folder / "xenbench").symlink_to(Path(__file__).parent)
        cede = ("cede", "--no-agent") if SOCKET.is_socket() else ("cede",)
        found = Setting(given=pairs, folder=str(folder), asks_guest=asks_guest, cede=cede)
        for name, text in policies(found).items():
            Path(found.policy(name)).write_text(text, encoding="utf-8")
        yield found
    finally:
        shutil.rmtree(folder)


def require_host() -> None:
    """Raise NotHereError unless this is dom0, with all programs, and root asks."""
    if os.geteuid() != 0:
        raise NotHereError("measuring this host needs root")
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        raise NotHereError(f"not installed: {', '.join(missing)}")


def measure(
    of: Setting, rounds: int, only: Sequence[str], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Measure all, or the courses whose names begin with one of `only`; an agent that runs goes on running."""
    agent = SOCKET.is_socket()
    if agent:
        yield {"note": "the agent ran all the time, also beside virsh, xl and cede without it"}
    load = Course(name="pciback", steps=(), undo=("modprobe", "xen-pciback"))
    picked = [
        course
        for course in courses(of, agent=agent)
        if not only or course.name.startswith(tuple(only))
    ]
    environment = {**os.environ, "PYTHONPATH": str(_PACKAGES)}
    yield from lines_of(
        (sys.executable, *RUNNER[1:]),
        [load, *picked],
        rounds=rounds,
        folder=of.folder,
        agent={"unit": "cede.service"} if agent else {},
        environment=environment,
        say=say,
    )


def where(rounds: int, load: tuple[float, float]) -> str:
    """The host in words."""
    return (
        f"Measured on this host (Linux {os.uname().release}), in {rounds} rounds in which all take turns. Its load,"
        f" with {os.cpu_count()} processors: {load[0]:.1f} before, {load[1]:.1f} after."
    )
