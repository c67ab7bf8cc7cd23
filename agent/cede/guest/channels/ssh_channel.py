"""The channel by ssh: OpenSSH's own client, with the user's configuration and known hosts.

Host keys are checked whatever that configuration says, ssh never prompts, and the guest's answer comes framed.
Source: ssh(1), ssh_config(5); the messages are those of ssh.c, sshconnect.c and sshconnect2.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cede.errors import GuestSilentError, HungError, PermanentError
from cede.guest import probe
from cede.guest.channels import credentials
from cede.guest.channels.terminal import Frame, printable
from cede.util import process

if TYPE_CHECKING:
    from cede.model.pci import Address
    from cede.util.process import CompletedProcess

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ClearAllForwardings=yes",
    "ControlMaster=no",  # one that is there is used; none is left behind
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "StdinNull=no",
    # nothing of dom0 goes to a guest, whatever that configuration forwards, and nothing of a guest comes into it
    "ForwardAgent=no",
    "AddKeysToAgent=no",
    "ForwardX11=no",
    "ForwardX11Trusted=no",
    "GSSAPIDelegateCredentials=no",
    "UpdateHostKeys=no",
    "Tunnel=no",
    "EscapeChar=none",
    "SetEnv=LC_ALL=C",  # the first one counts; of SendEnv all do, so that ssh is given nothing to send
    "ForkAfterAuthentication=no",
)
# what ssh itself needs to find its files, its keys and its tickets
_ENVIRONMENT = ("HOME", "PATH", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME")
_MAX_BYTES = 256 * 1024
_FAILED = 255  # ssh's own failure, not the command's
_MAX_QUOTE = 200
_NO_NETWORK = "is the guest's network up? or verify by console or xenstore"
# what ssh says -> the name of the error, what it means, and the remedy
_REASONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "host-key-changed",
        "the host key is not the known one",
        "if the guest was really installed anew: ssh-keygen -R {host}, then ssh {host} once and compare the key",
    ),
    (
        "Host key verification failed",
        "host-key-unknown",
        "the host key is unknown here",
        "connect once by hand as the user that runs cede and compare the key: ssh {host}",
    ),
    (
        "Permission denied",
        "login-refused",
        "the guest accepts none of the keys at hand",
        "put the public key into the guest's authorized_keys, and name the private key as `identity_file`",
    ),
    ("Could not resolve hostname", "unknown-host", "the name has no address",
     "fix `host` in the policy, or ssh_config"),
    ("Connection refused", "connection-refused", "nothing answers at the ssh port", "is sshd running in the guest?"),
    ("timed out", "guest-unreachable", "the guest can't be reached", _NO_NETWORK),
    ("No route to host", "guest-unreachable", "the guest can't be reached", _NO_NETWORK),
    ("Network is unreachable", "guest-unreachable", "the guest can't be reached", _NO_NETWORK),
    ("Bad owner or permissions", "ssh-config", "others can write ssh's configuration", "chmod 600 that file"),
    ("Bad configuration option", "ssh-config", "this ssh is older than OpenSSH 8.7", "install a newer openssh-client"),
)  # fmt: skip


class SshChannel:
    """A shell of the guest behind ssh."""

    def __init__(
        self, host: str, *, user: str | None = None, identity_file: str | None = None
    ) -> None:
        self._host = host
        self._user = user
        self._identity_file = identity_file

    def probe(self, slot: Address, seconds: float) -> str:
        """See `probe.GuestChannel`."""
        return self.run(probe.command(slot), seconds)

    def run(self, command: str, seconds: float) -> str:
        """Run `command`, cede's own text, in a POSIX shell of the guest, and return what it printed.

        Raises GuestSilentError if ssh can't connect or brings no whole answer within `seconds`, PermanentError if ssh
        is not installed or others can read the identity file.
        """
        if self._identity_file is not None:
            credentials.check_secret(self._identity_file)
        frame = Frame()
        try:
            completed = process.run_apart(
                *self._argv(seconds),
                stdin=frame.around(command) + "\n",
                seconds=seconds,
                most=_MAX_BYTES,
                environ={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
        except HungError as error:
            raise GuestSilentError(
                f"ssh to {self._host} did not answer in {seconds:.0f} s",
                name="ssh-timeout",
                remedy=_NO_NETWORK,
            ) from error
        except PermanentError as error:
            raise PermanentError(
                error.message, name=error.name, remedy="apt-get install openssh-client"
            ) from error
        answer = frame.answer(completed.out)
        if answer is None:
            raise self._silent(completed)
        return answer

    def _argv(self, seconds: float) -> tuple[str, ...]:
        """Return ssh's arguments; the command goes by standard input, so that any login shell will do."""
        options = [f"-o{option}" for option in _OPTIONS]
        options += [f"-oConnectTimeout={max(1, int(seconds))}"]
        options += ["-l", self._user] if self._user else []
        options += ["-i", self._identity_file] if self._identity_file else []
        return ("ssh", "-T", *options, "--", self._host, "sh", "-s")

    def _silent(self, said: CompletedProcess) -> GuestSilentError:
        complaint = printable(said.err)
        if said.status == _FAILED:
            for words, name, meaning, remedy in _REASONS:
                if words in complaint:
                    return GuestSilentError(
                        f"ssh to {self._host}: {meaning}",
                        name=name,
                        remedy=remedy.format(host=self._host),
                    )
        last = next(
            (line for line in reversed(complaint.splitlines()) if line.strip()), "no message"
        )
        return GuestSilentError(
            f"ssh to {self._host} brought no answer (status {said.status}): {last.strip()[:_MAX_QUOTE]}",
            name="ssh-failed",
            remedy=f"try by hand: ssh {self._host} true",
        )
