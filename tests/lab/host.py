"""dom0 of the nested Xen host, as a test speaks to it."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenlab.dom0 import Result
from xenlab.errors import LabError
from xenlab.lab import Lab

IN_DOM0 = Path(__file__).with_name("in_dom0.py")
FOLDER = "/run/cede-tests"
_HVM_TRIES = 3
IN_GUEST = Path(__file__).parents[2] / "contrib/xenlab/in_guest.py"


class Host:
    """dom0 as a test speaks to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._answers = False

    def pristine(self) -> None:
        """Back to the snapshot, with this checkout's cede installed and the HVM guest standing still.

        Emulated SVM makes that guest triple-fault and begin anew now and then, which looks like somebody's deed.
        """
        self.lab.reset()
        self.lab.push()
        self.sh("virsh -q -c xen:///system suspend hvm1")
        self._answers = False

    def with_hvm(self, test: Callable[[], None]) -> None:
        """What needs the HVM guest awake; anew on a pristine host where Xen's log tells that it triple-faulted."""
        for _ in range(_HVM_TRIES - 1):
            self.sh("virsh -q -c xen:///system resume hvm1")
            try:
                test()
            except (AssertionError, LabError):
                if "Triple fault" not in self.sh("xl dmesg"):
                    raise
                self.pristine()
            else:
                return
        self.sh("virsh -q -c xen:///system resume hvm1")
        test()

    def ask(self, seconds: float = 120, **request: object) -> Any:  # noqa: ANN401 - what in_dom0 answers
        """Have in_dom0 do something, and return its answer."""
        if not self._answers:
            self.write(f"{FOLDER}/in_dom0.py", IN_DOM0.read_text())
            self.sh(
                f"cd {FOLDER}; mkfifo ask answer; setsid python3 -P in_dom0.py . < /dev/null > said 2>&1 &"
            )
            self._answers = True
        done = self.lab.exec(
            ["sh", "-ec", f"cat > {FOLDER}/ask; cat {FOLDER}/answer"],
            stdin=json.dumps(request),
            timeout=seconds,
        )
        told = json.loads(done.stdout)
        assert "failed" not in told, told["failed"]
        return told["answer"]

    def cede(self, *argv: str) -> Result:
        """Run cede, without the seconds that Python takes to begin."""
        done = self.ask(300, do="run", argv=argv)
        return Result(["cede", *argv], done["status"], done["out"], done["err"])

    def run(self, *argv: str) -> Result:
        """Run in dom0, whatever the exit status."""
        return self.lab.exec(argv)

    def sh(self, script: str, *, timeout: float = 120) -> str:
        """Run a shell script in dom0, which has to succeed within `timeout` seconds."""
        return self.lab.succeed(["sh", "-ec", script], timeout=timeout)

    def guest(self, domain: str, command: str) -> str:
        """Run a command on a guest's console."""
        done = self.lab.exec(["python3", "-", domain, command], stdin=IN_GUEST.read_text())
        assert done.returncode == 0, done.stderr
        return done.stdout

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

    def write(self, path: str, text: str) -> None:
        """Write a file in dom0."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
        done = self.lab.exec(["sh", "-ec", script, "sh", path], stdin=text)
        assert done.returncode == 0, done.stderr

    def last_words(self, script: str) -> str:
        """What a shell script says in dom0, or why it can't be asked any more."""
        try:
            return self.lab.exec(["sh", "-c", script], timeout=30).stdout
        except LabError as silent:
            return silent.told()

    def state(self) -> str:
        """All that cede could change: drivers, overrides, slots, every domain's XML, xenstore's backend."""
        guests = ("pv1", "pv2", "pv3", "hvm1")
        dumps = "; ".join(f"dumpxml {name}; dumpxml --inactive {name}" for name in guests)
        return self.sh(
            "cd /sys/bus/pci/devices; find */driver -printf '%h %l\\n'; grep . */driver_override;"
            " cat /sys/bus/pci/drivers/pciback/slots 2>/dev/null || echo not loaded;"
            f" virsh -q -c xen:///system '{dumps}';"
            " xenstore-ls -f /local/domain/0/backend/pci 2>/dev/null || echo no backend"
        )
