"""Types into a guest's console while the guest goes away; this file is sent to dom0's python3 and runs there.

`python3 - DOMAIN HOW...`: for each HOW, `destroy`, `reboot` or `crash`, the guest is made to run, cede types one look
after the other into its console, and in the midst of that the guest is destroyed, rebooted or crashed. One line of JSON
each time: how the typing ended and after how many seconds, whether libvirt answered then, and what share of a processor
its daemon uses when it is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from cede.adapters.libvirt.connection import Libvirt
from cede.errors import CedeError
from cede.guest import probe
from cede.guest.channels.console_channel import ConsoleChannel
from cede.model.pci import Address

URI = "xen:///system"
LOOK = probe.command(Address.parse("0000:01:00.0"))
CRASH = "(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 & true"
CALM, CALM_SECONDS = 0.3, 30
UP_SECONDS, TYPING_SECONDS, ANSWER_SECONDS = 120, 60, 30
_UTIME, _STIME = 11, 12


def virsh(*words: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
    """One session of virsh; raises TimeoutExpired if it hangs."""
    argv = ["virsh", "-q", "-c", URI, *words]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=seconds)


def type_once(domain: str, command: str) -> None:
    """Type a command as cede does."""
    with Libvirt(URI).console(domain) as line:
        asked = ConsoleChannel(line)
        asked.run(command, seconds=30)
        asked.leave()


def make_run(domain: str) -> None:
    """Start the guest if it is off, and wait for its shell."""
    end = time.monotonic() + UP_SECONDS
    while time.monotonic() < end:
        if virsh("domstate", domain).stdout.strip() != "running":
            virsh("start", domain)
        try:
            type_once(domain, "true")
        except CedeError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{domain} has no shell after {UP_SECONDS} s")


class Typing(threading.Thread):
    """One look after the other, until something is wrong; `ended` tells what."""

    def __init__(self, domain: str) -> None:
        super().__init__(daemon=True)
        self._domain = domain
        self.begun = threading.Event()
        self.looks = 0
        self.ended = "not at all"

    def run(self) -> None:
        """Type."""
        try:
            with Libvirt(URI).console(self._domain) as line:
                asked = ConsoleChannel(line)
                while True:
                    self.begun.set()
                    asked.run(LOOK, seconds=20)
                    self.looks += 1
        except CedeError as error:
            self.ended = error.name
        except Exception as error:  # noqa: BLE001 - it is told
            self.ended = f"{type(error).__name__}: {error}"


def used() -> int:
    """The processor time of libvirt's daemon, in ticks."""
    pid = subprocess.run(["pidof", "libvirtd"], check=True, capture_output=True, text=True).stdout
    fields = Path(f"/proc/{pid.split()[0]}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_UTIME]) + int(fields[_STIME])


def answers() -> bool:
    """Whether libvirt answers."""
    try:
        return virsh("list", "--all", seconds=ANSWER_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def least_share() -> float:
    """The share of a processor that libvirt's daemon uses, once it is done with the guest; of a second that it had."""
    least = 1.0
    end = time.monotonic() + CALM_SECONDS
    while least >= CALM and time.monotonic() < end:
        before, began = used(), time.monotonic()
        time.sleep(1)
        ticks, took = used() - before, time.monotonic() - began
        least = min(least, ticks / os.sysconf("SC_CLK_TCK") / took)
    return round(least, 2)


def one(domain: str, how: str, after: float) -> dict[str, object]:
    """One guest that goes away while it is typed to, `after` so many seconds."""
    make_run(domain)
    if how == "crash":
        type_once(domain, CRASH)
    typing = Typing(domain)
    typing.start()
    typing.begun.wait(TYPING_SECONDS)
    started = time.monotonic()
    if how != "crash":
        time.sleep(after)
        started = time.monotonic()
        virsh(how, domain)
    typing.join(TYPING_SECONDS)
    seconds = time.monotonic() - started
    return {
        "how": how,
        "ended": typing.ended,
        "still typing": typing.is_alive(),
        "seconds": round(seconds, 1),
        "answered": answers(),
        "share": least_share(),
    }


def main() -> None:
    """Make the guest go away in each of the ways."""
    domain, *ways = sys.argv[1:]
    for number, how in enumerate(ways):
        sys.stdout.write(json.dumps(one(domain, how, 0.15 * (number % 9))) + "\n")
        sys.stdout.flush()
    make_run(domain)


if __name__ == "__main__":
    main()
