"""Commands in dom0, by ssh.

The host key was made together with dom0's disk, so it is known and checked; the port is on
127.0.0.1 only. Key exchange and cipher are those that cost least under emulation.
"""

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .command import search_path
from .disk import HOST_ALIAS, KEY, KNOWN_HOSTS
from .errors import LabError
from .waiting import wait_until

# ssh ends with 255 when it fails itself, but so can the command: ssh's own words tell them apart.
_SSH_FAILED = 255
_IDLE_SECONDS = 60
_LONGEST_SOCKET = 85  # the kernel takes 107 bytes, and ssh adds some while it makes one
_SSH_COMPLAINT = re.compile(
    r"^(ssh: |Connection |Timeout, |kex_exchange_identification|client_loop: )|Host key ",
    re.MULTILINE,
)

Result = subprocess.CompletedProcess[str]
"""What a command in dom0 printed, and its exit status."""


class UnreachableError(LabError):
    """dom0's sshd did not answer, or not in time."""


class CommandFailedError(LabError):
    """A command in dom0 did not end as it had to; `result` is all it said."""

    def __init__(self, result: Result, expected: str) -> None:
        super().__init__(
            f"`{shlex.join(result.args)}` in dom0 ended with status {result.returncode}, "
            f"where {expected} was expected",
            details=(result.stdout + result.stderr).strip(),
        )
        self.result = result


@dataclass(frozen=True, slots=True, kw_only=True)
class Dom0:
    """dom0 at a port of this machine; `keys` is the folder that its disk was built in.

    With `sockets`, a folder, commands share one connection: the key exchange is most of what a short one costs. The
    connection ends with dom0, or when nothing has used it for a while.
    """

    keys: Path
    port: int
    sockets: Path | None = None

    def ssh(self, argv: Sequence[str], *, terminal: bool = False) -> list[str]:
        """The command line that runs `argv` in dom0 with every word kept as it is."""
        options = {
            "BatchMode": "yes",
            "Ciphers": "aes128-ctr,chacha20-poly1305@openssh.com",
            "ConnectTimeout": "60",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": HOST_ALIAS,
            "IdentitiesOnly": "yes",
            "IdentityFile": _quoted(self.keys / KEY),
            "KexAlgorithms": "curve25519-sha256",
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _quoted(self.keys / KNOWN_HOSTS),
        }
        words = ["ssh", "-F", "none", "-t" if terminal else "-T", "-p", str(self.port)]
        for name, value in {**options, **self._shared()}.items():
            words += ["-o", f"{name}={value}"]
        return [*words, "root@127.0.0.1", "--", shlex.join(argv)]

    def _shared(self) -> dict[str, str]:
        path = None if self.sockets is None else self.sockets / f"ssh-{self.port}"
        if path is None or len(os.fsencode(path)) > _LONGEST_SOCKET:
            return {"ControlPath": "none"}
        return {
            "ControlMaster": "auto",
            "ControlPath": _quoted(path),
            "ControlPersist": str(_IDLE_SECONDS),
        }

    def run(self, argv: Sequence[str], *, stdin: str | bytes = "", timeout: float = 120) -> Result:
        """Run `argv`, whatever its exit status. Raises UnreachableError if there is no way in."""
        done = self._run(argv, stdin.encode() if isinstance(stdin, str) else stdin, timeout)
        stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Result(list(argv), done.returncode, stdout, stderr)

    def fetch(self, argv: Sequence[str], *, timeout: float = 120) -> bytes:
        """Run `argv`, which has to succeed, and return the bytes of its stdout."""
        done = self._run(argv, b"", timeout)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")
            raise CommandFailedError(Result(list(argv), done.returncode, "", said), "success")
        return done.stdout

    def _run(
        self, argv: Sequence[str], stdin: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                self.ssh(argv),
                input=stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
                env={**os.environ, "PATH": search_path()},
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"`{shlex.join(argv)}` in dom0 did not end within {timeout:.0f} s"
            ) from error
        said = done.stderr.decode(errors="replace")
        if done.returncode == _SSH_FAILED and _SSH_COMPLAINT.search(said):
            raise UnreachableError("dom0 cannot be reached by ssh", details=said.strip())
        return done

    def succeed(self, argv: Sequence[str], *, stdin: str | bytes = "", timeout: float = 120) -> str:
        """Run `argv`, which has to succeed, and return its stdout."""
        result = self.run(argv, stdin=stdin, timeout=timeout)
        if result.returncode != 0:
            raise CommandFailedError(result, "success")
        return result.stdout

    def fail(self, argv: Sequence[str], *, timeout: float = 120) -> Result:
        """Run `argv`, which has to fail."""
        result = self.run(argv, timeout=timeout)
        if result.returncode == 0:
            raise CommandFailedError(result, "a failure")
        return result

    def wait_until_succeeds(self, argv: Sequence[str], *, timeout: float = 60) -> str:
        """Run `argv` again and again until dom0 answers and it succeeds; return its stdout then."""
        output = ""
        failure: LabError | None = None

        def succeeded() -> bool:
            nonlocal output, failure
            try:
                output = self.succeed(argv)
            except (CommandFailedError, UnreachableError) as error:
                failure = error
                return False
            return True

        if not wait_until(succeeded, timeout=timeout, interval=0.5):
            details = failure.details if failure else ""
            raise LabError(f"after {timeout:.0f} s still: {failure}", details=details)
        return output

    def listens(self) -> bool:
        """Whether dom0's sshd says hello. Cheap: no key exchange."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def _quoted(path: Path) -> str:
    """A path as a value of ssh's options: spaces kept, percent signs taken as they are."""
    return '"' + str(path).replace("%", "%%") + '"'
