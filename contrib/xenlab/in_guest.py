"""Run one command in a guest of the lab; this file is sent to dom0's python3 and runs there.

`python3 - DOMAIN COMMAND < in_guest.py` prints what the command printed. It types into the guest's console as a
person would, with cede's own reader of consoles. What it says is a guest's word: tests that want to know whether
packets flow also look from outside.
"""

import sys

from cede.adapters.libvirt.connection import Libvirt
from cede.errors import CedeError
from cede.guest.channels import console_channel


def main() -> None:
    """Type the command, print the answer."""
    domain, command = sys.argv[1:]
    try:
        with Libvirt("xen:///system").console(domain) as line:
            sys.stdout.write(console_channel.ConsoleChannel(line).run(command, seconds=60))
    except CedeError as failed:
        sys.exit(f"{domain}: {failed.message}")


main()
