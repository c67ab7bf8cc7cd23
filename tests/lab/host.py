"""dom0 of the nested Xen host, as a test speaks to it."""

import json
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.more_packages import install
from xenlab.command import tail
from xenlab.dom0 import Dom0, Result
from xenlab.errors import LabError
from xenlab.lab import Lab
from xenlab.machine import RELEASES
from xenlab.prepared import Preparation
from xenlab.push import package_files, push
from xenlab.store import cache_folder

CHECKOUT = Path(__file__).parents[2]
IN_DOM0 = Path(__file__).with_name("in_dom0.py")
FOLDER = "/run/cede-tests"
_HVM_TRIES = 3
_BOOT_OF_XEN = "(XEN) Xen version"
# as panic in xen/drivers/char/console.c and hwdom_shutdown in xen/common/shutdown.c print
_XENS_LAST_WORDS = ("Panic on CPU", "crashed: ", "shutdown: rebooting")
_LAST_WORDS_SECONDS = 90
_LAST_WORDS = """\
timeout 30 virsh -q -c xen:///system list --all > /tmp/last-domains 2>&1 ||
    echo "== libvirtd doesn't answer: $(top -b -n 1 -p "$(pidof libvirtd)" | tail -n 1)"
echo '== Xen said last:'; xl dmesg | tail -n 5
echo '== libxl said last:'; tail -q -n 3 /var/log/libvirt/libxl/*.log
echo '== the kernel of dom0 said last:'; dmesg | tail -n 5
echo '== domains:'; cat /tmp/last-domains
tail -n 3 /var/log/xen/qemu-dm-*.log 2> /dev/null
"""
# Emulated SVM makes the HVM guest triple-fault and begin anew now and then, which looks like somebody's action.
_SUSPEND_HVM = "virsh -q -c xen:///system suspend hvm1"
_ANSWERS = (
    f"cd {FOLDER}; mkfifo ask answer; setsid python3 -P in_dom0.py . < /dev/null > said 2>&1 &"
)


def lab(release: str, packages: Sequence[str] = ()) -> Lab:
    """The lab whose snapshot has this checkout's cede installed, in_dom0 answering and the HVM guest standing still.

    With `packages` it has their programs, too. Each process that runs tests has its own, which ends with it, and which
    is not the one that `contrib/lab` leads to.
    """

    def prepare(dom0: Dom0) -> None:
        python, compiled = RELEASES[release].python, cache_folder() / "compiled"
        push(dom0, checkout=CHECKOUT, python=python, compiled=compiled)
        if packages:
            install(dom0, RELEASES[release], packages)
        dom0.succeed(["sh", "-ec", _SUSPEND_HVM])
        dom0.succeed(
            ["sh", "-ec", f"mkdir -p {FOLDER}; cat > {FOLDER}/in_dom0.py"],
            stdin=IN_DOM0.read_text(),
        )
        dom0.succeed(["sh", "-ec", _ANSWERS])
        _ask(dom0, 120, do="state")

    sent = [f"{path}\n".encode() + content for path, content in package_files(CHECKOUT)]
    inputs: list[str | bytes] = [
        *sent,
        IN_DOM0.read_bytes(),
        Path(__file__).read_bytes(),
        *packages,
    ]
    name = "tests-with-more" if packages else "tests"
    return Lab(
        release=release,
        preparation=Preparation(name=name, inputs=inputs, do=prepare),
        name="-".join(
            [os.environ.get("PYTEST_XDIST_WORKER", "tests"), *(["more"] if packages else [])]
        ),
        dies_with_caller=True,
    )


def _ask(dom0: Dom0, seconds: float, **request: object) -> Any:  # noqa: ANN401 - what in_dom0 answers
    done = dom0.succeed(
        ["sh", "-ec", f"cat > {FOLDER}/ask; cat {FOLDER}/answer"],
        stdin=json.dumps(request),
        timeout=seconds,
    )
    reported = json.loads(done)
    assert "failed" not in reported, reported["failed"]
    return reported["answer"]


class Host:
    """dom0 as a test speaks to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.restored = 0
        self.dirty = False
        self._done: set[tuple[int, str]] = set()
        self.last: Result | None = None

    def pristine(self) -> None:
        """Back to the snapshot."""
        self.dirty = False
        self.last = None
        self.restored += 1
        self.lab.reset()

    def with_hvm(self, test: Callable[[], None]) -> None:
        """What needs the HVM guest awake; anew on a pristine host where the emulated processor's SVM failed."""
        for _ in range(_HVM_TRIES - 1):
            self.sh("virsh -q -c xen:///system resume hvm1")
            try:
                test()
            except (AssertionError, LabError):
                if not self._svm_failed():
                    raise
                self.pristine()
            else:
                return
        self.sh("virsh -q -c xen:///system resume hvm1")
        test()

    def _svm_failed(self) -> bool:
        """Whether the guest triple-faulted, or the whole machine did: a host that falls says why, and this one doesn't.

        A machine that was restored shows no boot on its console.
        """
        console = self.lab.console_log()
        if _BOOT_OF_XEN in console:
            return not any(word in console for word in _XENS_LAST_WORDS)
        return "Triple fault" in self.sh("xl dmesg")

    def ask(self, seconds: float = 240, **request: object) -> Any:  # noqa: ANN401 - what in_dom0 answers
        """Have in_dom0 do something, and return its answer."""
        return _ask(self.lab.dom0(), seconds, **request)

    def cede(self, *argv: str) -> Result:
        """Run cede, without the seconds that Python takes to begin."""
        self.last = Result(["cede", *argv], -1, "", "it hasn't ended")
        done = self.ask(300, do="run", argv=argv)
        self.last = Result(["cede", *argv], done["status"], done["out"], done["err"])
        return self.last

    def run(self, *argv: str) -> Result:
        """Run in dom0, whatever the exit status."""
        return self.lab.exec(argv)

    def sh(self, script: str, *, timeout: float = 240) -> str:
        """Run a shell script in dom0, which has to succeed within `timeout` seconds."""
        return self.lab.succeed(["sh", "-ec", script], timeout=timeout)

    def guest(self, domain: str, command: str) -> str:
        """Run a command on a guest's console."""
        done = self.ask(do="guest", domain=domain, command=command)
        assert done["status"] == 0, done["err"]
        return str(done["out"])

    def policy(self, device: str, address: str, domain: str, more: str = "") -> None:
        """Write /etc/cede/policy.yaml with one device and one assignment."""
        text = textwrap.dedent(f"""\
            version: 1
            devices:
              {device}:
                match: {{address: "{address}"}}
            assignments:
              - device: {device}
                domain: {domain}
            """)
        self.write("/etc/cede/policy.yaml", text + textwrap.indent(more, "    "))

    def once(self, script: str) -> None:
        """Run a shell script in dom0, if it wasn't since the host was restored."""
        if (self.restored, script) not in self._done:
            self.sh(script)
            self._done.add((self.restored, script))

    def write(self, path: str, text: str) -> None:
        """Write a file in dom0."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        done = self.lab.exec(["sh", "-ec", script, "sh", path], stdin=text)
        assert done.returncode == 0, done.stderr

    def last_words(self) -> str:
        """What cede said last, and what Xen, libxl and the guests did; or that dom0 or libvirtd doesn't answer."""
        said = ["== no command of cede's was run"]
        if self.last is not None:
            output = tail(self.last.stdout + self.last.stderr)
            said = [
                f"== {' '.join(self.last.args)} ended with {self.last.returncode}, and said last:",
                output,
            ]
        try:
            answer = self.lab.exec(["sh", "-c", _LAST_WORDS], timeout=_LAST_WORDS_SECONDS)
            said.append(answer.stdout)
        except LabError as silent:
            said += [f"== dom0 doesn't answer: {silent.message}", tail(self.lab.console_log())]
        return "\n".join(said)

    def state(self) -> str:
        """All that cede could change: drivers, overrides, slots, every domain's XML, xenstore's backend."""
        guests = ("pv1", "pv2", "pv3", "pv4", "hvm1")
        dumps = "; ".join(f"dumpxml {name}; dumpxml --inactive {name}" for name in guests)
        return self.sh(
            "cd /sys/bus/pci/devices; find */driver -printf '%h %l\\n'; grep . */driver_override;"
            " cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null || echo not loaded;"
            f" virsh -q -c xen:///system '{dumps}';"
            " xenstore-ls -f /local/domain/0/backend/pci 2>/dev/null || echo no backend"
        )
