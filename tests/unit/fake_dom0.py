"""Programs of a dom0 for shell scripts: virsh, xl, xenstore tools and lspci, over one device and one domain."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import tty
from pathlib import Path

ADDRESS, DOMAIN, DRIVER = "0000:01:00.0", "pv1", "e1000e"

_PROGRAMS = {
    "virsh": """\
[ "$1" = -q ] && shift 3
echo "virsh $*" >> "$FAKE/said"
case "$1 $*" in
domstate*) echo running ;;
domid*) echo 3 ;;
ttyconsole*) cat "$FAKE/console" ;;
nodedev-detach*) bind pciback ;;
nodedev-reattach*) bind e1000e ;;
attach-device*) cp "$3" "$FAKE/live"; cp "$3" "$FAKE/config" ;;
dumpxml*--inactive*) cat "$FAKE/config" ;;
dumpxml*) cat "$FAKE/live" ;;
detach-device*) case "$*" in *--live*) : > "$FAKE/live" ;; esac; case "$*" in *--config*) : > "$FAKE/config" ;; esac ;;
list*) echo pv1 ;;
esac
""",
    "xl": """\
echo "xl $*" >> "$FAKE/said"
case "$1" in
domid) echo 3 ;;
pci-assignable-add) bind pciback ;;
pci-attach) echo "$3" > "$FAKE/by-xl" ;;
pci-list) cat "$FAKE/by-xl" ;;
pci-detach) : > "$FAKE/by-xl" ;;
pci-assignable-remove) [ "$2" = -r ] && bind e1000e || true ;;
esac
""",
    "xenstore-ls": """\
[ -s "$FAKE/live" ] || [ -s "$FAKE/by-xl" ] || exit 1
printf '%s/state = "4"\\n%s/dev-0 = "0000:01:00.0"\\n%s/vdev-0 = "0000:00:00.00"\\n' "$2" "$2" "$2"
""",
    "xenstore-exists": "exit 1\n",
    "xenstore-read": """\
case "$1" in
*/device/pci/0/state) echo "${GUEST_STATE:-4}" ;;
*) cat "$FAKE/console" ;;
esac
""",
    "lspci": """\
[ -e "$FAKE/no-driver" ] && exit
printf '00:00.0 Ethernet controller [0200]: Intel [8086:10d3]\\n\\tKernel driver in use: e1000e\\n'
""",
    "cede": 'echo "cede $*" >> "$FAKE/said"; exit 3\n',
}
_BIND = 'bind() { ln -sfn "../drivers/$1" "$XENBENCH_SYS/bus/pci/devices/0000:01:00.0/driver"; }\n'


class FakeDom0:
    """The files are in `folder`; the guest's console is a terminal with a shell of this machine at its other end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.device = folder / "sys/bus/pci/devices" / ADDRESS
        self.device.mkdir(parents=True)
        (self.device / "vendor").write_text("0x8086\n")
        (self.device / "device").write_text("0x10d3\n")
        (self.device / "driver").symlink_to(f"../drivers/{DRIVER}")
        for name in ("live", "config", "by-xl", "said"):
            (folder / name).touch()
        (folder / "bin").mkdir()
        for name, script in _PROGRAMS.items():
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{_BIND}{script}")
            program.chmod(0o755)
        self._environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "FAKE": str(folder),
            "XENBENCH_SYS": str(folder / "sys"),
        }
        self.console = self._guest()
        (folder / "console").write_text(f"{self.console}\n")

    def run(self, script: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the folder, or one that is given as text."""
        argv = ["bash", str(script), *words] if isinstance(script, Path) else ["bash", "-c", script]
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=30, env=self._environment
        )

    @property
    def driver(self) -> str:
        """What dom0 has bound the device to."""
        return (self.device / "driver").readlink().name

    @property
    def holders(self) -> set[str]:
        """Where the device is given: live, config, by-xl."""
        return {name for name in ("live", "config", "by-xl") if (self._folder / name).read_text()}

    @property
    def said(self) -> list[str]:
        """The programs that were called, with their words."""
        return (self._folder / "said").read_text().splitlines()

    def without_driver_in_guest(self) -> None:
        """From now on the guest shows nothing."""
        (self._folder / "no-driver").touch()

    def _guest(self) -> str:
        guest, dom0 = pty.openpty()
        tty.setraw(dom0)
        threading.Thread(target=self._play, args=(guest,), daemon=True).start()
        return os.ttyname(dom0)

    def _play(self, terminal: int) -> None:
        """A shell on the console: echoes, runs what is typed, and shows its prompt as busybox does."""
        typed = b""
        while True:
            try:
                new = os.read(terminal, 1024)
            except OSError:
                return
            os.write(terminal, new.replace(b"\r", b"\r\n"))
            typed += new
            while b"\r" in typed:
                line, _, typed = typed.partition(b"\r")
                done = subprocess.run(
                    ["sh", "-c", line], capture_output=True, check=False, env=self._environment
                )
                os.write(terminal, done.stdout.replace(b"\n", b"\r\n") + b"pv1:~# \x1b[6n")
