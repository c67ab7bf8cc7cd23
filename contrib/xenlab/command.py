"""Running programs of this machine: one adapter, so that every failure is told the same way.

`run` is for the user's own rights, `as_root` for the few steps that need root (installing
packages, making the dom0's root file system). Both are killed together with the lab: a build
that lost its master must not go on writing into a folder that the next one cleans up.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .errors import LabError

# Programs of the system administrator are not on every user's PATH in Debian.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"

_KEPT_BY_SUDO = "--preserve-env=http_proxy,https_proxy,no_proxy,DEBIAN_FRONTEND,TMPDIR"
_TAIL_LINES = 15


def search_path() -> str:
    """The PATH to look for programs on, with the administrator's folders added."""
    return f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"


def find_program(name: str) -> str | None:
    """Where `name` is installed, or None."""
    return shutil.which(name, path=search_path())


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """The last lines of `text` that have something on them."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    cwd: Path | None = None,
    check: bool = True,
    purpose: str = "",
    end_by: signal.Signals = signal.SIGTERM,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` to its end and return what it printed.

    `end_by` is the signal that it gets if the lab is interrupted or dies. Raises LabError with the
    end of its output when it fails and `check` is set, or when there is no such program.
    """
    environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", end_by.name.removeprefix("SIG"), "--", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env=environment,
        )
    except FileNotFoundError as error:
        raise LabError(f"cannot run {argv[0]}: {error}") from error
    try:
        stdout, stderr = process.communicate(stdin)
    except BaseException:
        _end(process, end_by)
        raise
    if check and process.returncode != 0:
        raise LabError(
            f"could not {purpose or shlex.join(argv)} (status {process.returncode})",
            details=tail(stderr or stdout),
        )
    return subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)


def as_root(
    argv: Sequence[str], *, why: str, end_by: signal.Signals = signal.SIGTERM
) -> subprocess.CompletedProcess[str]:
    """Run `argv` as root, by sudo if need be; `why` ends the sentence "root is needed to ..."."""
    if os.geteuid() == 0:
        return run(argv, purpose=why, end_by=end_by)
    if find_program("sudo") is None:
        raise LabError(
            f"root is needed to {why}, and there is no sudo",
            remedy="install sudo, or run this as root",
        )
    allowed = run(["sudo", "-v"], check=False)
    if allowed.returncode != 0:
        raise LabError(
            f"root is needed to {why}, and sudo refuses",
            remedy="run this as root, or let sudo allow this user",
            details=tail(allowed.stderr),
        )
    sudo = ["sudo", _KEPT_BY_SUDO, "--", "env", f"PATH={search_path()}"]
    return run([*sudo, *argv], purpose=why, end_by=end_by)


def _end(process: subprocess.Popen[str], end_by: signal.Signals) -> None:
    """Stop a program whose master was interrupted, and give it time to clean up."""
    # What sudo started is not ours to signal; it got Ctrl-C from the terminal as we did.
    with suppress(PermissionError):
        process.send_signal(end_by)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
        return
    with suppress(PermissionError):
        process.kill()
        process.wait()
