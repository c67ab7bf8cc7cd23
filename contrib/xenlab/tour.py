"""The demo: the main job told in plain words, each word checked.

A statement is printed only after what it says was seen; the first one that isn't so ends the tour with status 1.
"""

import sys
import textwrap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .dom0 import Result
from .errors import LabError
from .lab import Lab

NIC = "0000:01:00.0"
NIC_ID = "8086:10d3"
GUEST = "pv1"
GUEST_IP, PEER_IP, RETURNED_IP = "10.77.0.2", "10.77.0.1", "10.77.0.3"
PINGS = 3
POLICY = f"""\
version: 1
devices:
  nic0:
    match: {{address: "{NIC}"}}
    expect: {{vendor: "8086", device: "10d3"}}
assignments:
  - device: nic0
    domain: {GUEST}
    verify: {{guest: console}}
    on_drift: restore
"""
ROOT_DISK_POLICY = POLICY.replace(NIC, "0000:00:03.0").replace(
    'expect: {vendor: "8086", device: "10d3"}', "expect: {}"
)
AWAIT_CARRIER = (
    'n=0; while [ $n -lt 100 ] && [ "$(cat /sys/class/net/{name}/carrier)" != 1 ]; '
    "do n=$((n+1)); sleep 0.1; done"
)
IN_GUEST = Path(__file__).with_name("in_guest.py")
_SIDE_BY_SIDE = 2  # while one waits for its guest the other has the processor
_LOOK = "lspci -nnk"
_REFUSED_PLAN = ("cede", "plan", "-f", "/tmp/root-disk.yaml")


_IN_GUEST = ("python3", "-", GUEST)


def _in_guest(command: str) -> tuple[str, ...]:
    """How dom0 has a command run on the guest's console, by IN_GUEST."""
    return (*_IN_GUEST, command)


class UntrueError(Exception):
    """Something that the tour was about to say isn't so."""


class Tour:
    """One walk through the main job, on a lab in its pristine state."""

    def __init__(self, release: str) -> None:
        self._lab = Lab(release=release)
        self._started = time.monotonic()
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE)
        self._ahead: dict[tuple[str, ...], Future[Result]] = {}

    def main(self) -> int:
        """Walk; the exit status."""
        try:
            self._walk()
        except UntrueError as untrue:
            self._say(f"This is not as it should be: {untrue}")
            return 1
        except LabError as failed:
            print(failed.reported(), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted; the lab stays as it is: contrib/lab status", file=sys.stderr)
            return 130
        finally:
            self._pool.shutdown(cancel_futures=True)
        return 0

    def _walk(self) -> None:
        self._prepare()
        self._before()
        self._refuse_root_disk()
        self._give()
        self._packets_of_guest()
        self._again()
        self._take_back()
        self._packets_of_dom0()
        self._say(
            f"That was all of it, in {time.monotonic() - self._started:.0f} s. The lab is still up:"
        )
        print("    contrib/lab exec -- cede devices      look around in its dom0")
        print("    contrib/lab console pv1               sit at the guest's console")
        print("    contrib/lab down                      stop it")

    # -- the stations ------------------------------------------------------

    def _prepare(self) -> None:
        self._say(
            "A real Xen host, emulated: first time it is built from Debian packages (a few minutes)."
        )
        self._lab.reset()
        self._lab.push()
        self._write("/etc/cede/policy.yaml", POLICY)
        self._write("/tmp/root-disk.yaml", ROOT_DISK_POLICY)

    def _before(self) -> None:
        self._look_ahead(("cede", "devices"), _in_guest(_LOOK), _REFUSED_PLAN, ("cede", "plan"))
        self._say(
            f"The host has these devices; {NIC} is the network card that guest {GUEST} shall get."
        )
        self._host("cede", "devices")
        self._say(f"The guest {GUEST} has no PCI device at all now. Its own lspci:")
        shown = self._guest(_LOOK)
        self._must(NIC_ID not in shown, "the guest has the card before it was given")

    def _refuse_root_disk(self) -> None:
        self._say(
            "A slip of the finger: a policy that gives away the host's own root disk. It is refused."
        )
        refused = self._host(*_REFUSED_PLAN, status=3)
        self._must("which holds /" in refused, "the reason for the refusal was not told")

    def _give(self) -> None:
        self._say(
            "The policy, and the plan that comes of it. A plan touches nothing (exit status 4: work to do)."
        )
        print(textwrap.indent(POLICY, "    "))
        self._host("cede", "plan", status=4)
        self._say(
            "Now it is done: each step is read back, and in the end the guest itself is asked."
        )
        self._host("cede", "apply", "--yes")
        self._say("What dom0's sysfs and Xen's xenstore say, read without cede:")
        driver = self._host("readlink", f"/sys/bus/pci/devices/{NIC}/driver")
        self._must(driver.strip().endswith("/pciback"), "the card isn't on pciback")
        nodes = self._host("xenstore-ls", "-f", "/local/domain/0/backend/pci")
        self._must(f'dev-0 = "{NIC}"' in nodes, "xenstore doesn't name the card")
        self._must('/0/state = "4"' in nodes, "the backend isn't connected")
        self._say("And the guest's own lspci:")
        shown = self._guest(_LOOK)
        self._must(
            NIC_ID in shown and "driver in use: e1000e" in shown, "the guest doesn't drive the card"
        )

    def _packets_of_guest(self) -> None:
        self._say(
            "Packets through the card that the guest has now: dom0 pings it from `lab0`, on the same hub."
        )
        up = f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up; "
        self._guest(up + AWAIT_CARRIER.format(name="eth0"), show=up)
        self._ping("ping", "-c", str(PINGS), "-i", "0.3", "-W", "5", "-I", "lab0", GUEST_IP)

    def _again(self) -> None:
        self._say("Applied once more, nothing is to do, and nothing is done.")
        said = self._host("cede", "apply", "--yes")
        self._must("Nothing was changed." in said, "a second apply changed something")

    def _take_back(self) -> None:
        self._say("Now dom0 wants its card back, and working.")
        self._host("cede", "release", "nic0")
        self._look_ahead(_in_guest(_LOOK), ("cede", "status"))
        shown = self._guest(_LOOK)
        self._must(NIC_ID not in shown, "the guest still sees the card")
        self._host("cede", "status", status=4)

    def _packets_of_dom0(self) -> None:
        self._say(
            "Packets from dom0 through the returned card (in a network namespace, so that they must leave by it):"
        )
        name = self._host("ls", f"/sys/bus/pci/devices/{NIC}/net", show=False).strip()
        self._must(bool(name), "the returned card has no network interface")
        for argv in (
            ["ip", "netns", "add", "returned"],
            ["ip", "link", "set", name, "netns", "returned"],
            ["ip", "-n", "returned", "addr", "add", f"{RETURNED_IP}/24", "dev", name],
            ["ip", "-n", "returned", "link", "set", name, "up"],
        ):
            self._host(*argv, show=False)
        inside = ("ip", "netns", "exec", "returned")
        self._host(*inside, "sh", "-c", AWAIT_CARRIER.format(name=name), show=False)
        self._ping(*inside, "ping", "-c", str(PINGS), "-i", "0.3", "-W", "5", PEER_IP)
        self._host("ip", "netns", "del", "returned", show=False)

    # -- how it is told and checked -----------------------------------------

    def _say(self, text: str) -> None:
        print(f"\n=== {textwrap.fill(text, 96, subsequent_indent='    ')}", flush=True)

    def _must(self, truth: bool, otherwise: str) -> None:
        if not truth:
            raise UntrueError(otherwise)

    def _ping(self, *argv: str) -> None:
        said = self._host(*argv)
        self._must(f" {PINGS} received" in said, "packets were lost")

    def _host(self, *argv: str, status: int = 0, show: bool = True) -> str:
        if show:
            print(f"dom0# {' '.join(argv)}", flush=True)
        return self._shown(self._done(argv), argv[0], status=status, show=show)

    def _guest(self, command: str, show: str = "") -> str:
        print(f"{GUEST}# {show or command}", flush=True)
        return self._shown(self._done(_in_guest(command)), GUEST, status=0, show=True)

    def _look_ahead(self, *commands: tuple[str, ...]) -> None:
        """Begin what only looks, side by side; it is shown when its turn comes."""
        for argv in commands:
            self._ahead[argv] = self._pool.submit(self._run, argv)

    def _done(self, argv: tuple[str, ...]) -> Result:
        begun = self._ahead.pop(argv, None)
        return self._run(argv) if begun is None else begun.result()

    def _run(self, argv: tuple[str, ...]) -> Result:
        script = IN_GUEST.read_text() if argv[: len(_IN_GUEST)] == _IN_GUEST else ""
        return self._lab.exec(argv, stdin=script)

    def _shown(self, done: Result, what: str, *, status: int, show: bool) -> str:
        if show:
            print(textwrap.indent(done.stdout or "(prints nothing)\n", "    "), end="", flush=True)
        if done.returncode != status:
            print(textwrap.indent(done.stdout + done.stderr, "    "), file=sys.stderr)
            raise UntrueError(f"{what} ended with {done.returncode}, not {status}")
        return done.stdout

    def _write(self, path: str, text: str) -> None:
        done = self._lab.exec(
            ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path], stdin=text
        )
        self._must(done.returncode == 0, f"{path} can't be written in dom0")
