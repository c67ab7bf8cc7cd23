"""`contrib/lab`: the command line of the lab."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from .command import search_path
from .errors import LabError
from .lab import Lab, State
from .machine import DEFAULT_RELEASE, GUESTS, RELEASES
from .progress import say

_DESCRIPTION = """\
A real Xen host with libvirt, guests and PCI devices to give away, run under QEMU's emulation.
The first `up` builds it from Debian packages, which takes a few minutes and up to 5 GB below
~/.cache/cede/lab; from then on it starts from a snapshot within seconds."""

_EPILOG = """\
examples:
  contrib/lab up                            start it; says so if it is up already
  contrib/lab exec -- lspci -nn             a command in dom0; its exit status passes through
  contrib/lab push                          install this checkout's cede in dom0
  contrib/lab console pv1                   a guest's console; leave it with Ctrl-]
  contrib/lab reset                         back to the snapshot, all changes gone
  contrib/lab --dom0 bookworm up            the other dom0, beside the first

exit status: 0 done; 1 failed (`status`: it is not up); 2 wrong command line; 130 interrupted;
`exec` and `console`: that of the command."""

_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    os.umask(0o022)
    signal.signal(signal.SIGTERM, _terminate)
    options = _parser().parse_args(arguments)
    verb: Callable[[Lab, argparse.Namespace], int] = options.verb
    try:
        return verb(Lab(release=options.dom0), options)
    except LabError as error:
        print(error.reported(), file=sys.stderr)
        return 1
    except OSError as error:
        print(LabError(str(error)).reported(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half done is kept")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="contrib/lab", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    _add_dom0(parser, default=DEFAULT_RELEASE)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str, text: str, verb: Callable[[Lab, argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        # Given before the verb it must survive here: no default of its own.
        _add_dom0(sub, default=argparse.SUPPRESS)
        sub.set_defaults(verb=verb)
        return sub

    add("up", "build what is missing and start the lab", _up)
    add("reset", "go back to the pristine snapshot", _reset)
    add("down", "stop the lab; what was built is kept", _down)
    add("status", "tell whether the lab is up, and from what", _status)
    add("push", "install this checkout's cede in dom0", _push)
    run = add("exec", "run a command in dom0; its exit status passes through", _exec)
    run.add_argument("command", nargs="+", metavar="COMMAND", help="the command, after --")
    console = add("console", "a guest's console; leave it with Ctrl-]", _console)
    console.add_argument("domain", metavar="DOMAIN", help=", ".join(guest.name for guest in GUESTS))
    console.add_argument("--force", action="store_true", help="throw out whoever is on it")
    return parser


def _add_dom0(parser: argparse.ArgumentParser, *, default: str) -> None:
    parser.add_argument(
        "--dom0",
        choices=RELEASES,
        default=default,
        help=f"the Debian release that dom0 runs (default: {DEFAULT_RELEASE})",
    )


def _up(lab: Lab, _: argparse.Namespace) -> int:
    lab.up()
    return 0


def _reset(lab: Lab, _: argparse.Namespace) -> int:
    lab.reset()
    return 0


def _down(lab: Lab, _: argparse.Namespace) -> int:
    lab.down()
    return 0


def _status(lab: Lab, _: argparse.Namespace) -> int:
    state = lab.state()
    print(f"{lab.release.suite}: {state.value}")
    print(f"folder: {lab.folder}")
    if state is State.ABSENT:
        return 1
    print(f"dom0's sshd: 127.0.0.1:{lab.dom0().port}")
    print(f"QEMU: pid {lab.emulator.pid}, {lab.qmp('query-status')['status']}")
    return 0


def _push(lab: Lab, _: argparse.Namespace) -> int:
    lab.push()
    return 0


def _exec(lab: Lab, options: argparse.Namespace) -> int:
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    _become(lab.dom0().ssh(options.command, terminal=terminal))


def _console(lab: Lab, options: argparse.Namespace) -> int:
    force = ["--force"] if options.force else []
    console = ["virsh", "-c", "xen:///system", "console", options.domain, *force]
    _become(lab.dom0().ssh(console, terminal=True))


def _become(argv: list[str]) -> NoReturn:
    """Replace this process: signals, terminal and exit status are the command's own."""
    os.execvpe(argv[0], argv, {**os.environ, "PATH": search_path()})


def _terminate(_: int, __: FrameType | None) -> None:
    """Let SIGTERM unwind what was begun, as Ctrl-C does."""
    say("terminated; nothing half done is kept")
    sys.exit(_TERMINATED)
