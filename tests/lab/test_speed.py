"""What cede costs beside the tools that it stands in for, measured on the real host; the rounds are told at the end.

Each figure is a ratio of two that were measured one after the other, so another host beside this one, on a processor of
its own, slows down both. `contrib/bench` measures more, and holds it to targets; this holds what is reached.
"""

import json
from statistics import median
from typing import Any

import pytest

from lab.figures import Measured
from lab.host import Host
from xenbench.courses import Setting
from xenbench.figures import figures
from xenbench.on_lab import FOLDER, GIVEN, LabBench
from xenbench.works import OWN_SHARE, WARM

pytestmark = [pytest.mark.lab, pytest.mark.long(1)]

SETTING = Setting(given=GIVEN[:1], folder=FOLDER)


def rounds(host: Host, what: str, number: int) -> list[dict[str, Any]]:
    """The rounds after the first one, in which Python's modules are read."""
    LabBench(host.lab).send(SETTING)
    argv = SETTING.warm(what, number + 1)
    done = host.lab.exec(argv, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return found[1:]


def test_an_inventory_takes_little_longer_than_a_virsh_session(
    host: Host, measured: Measured, soak: bool
) -> None:
    """`nodedev-list` and a `dumpxml` of each domain."""
    found = rounds(host, "inventory", 5 if soak else 3)
    own, virsh = (median(one[whose] for one in found) for whose in ("cede", "virsh"))
    measured.report(f"inventory {own:.2f} s, virsh {virsh:.2f} s: {own / virsh:.2f} (target 1.5)")
    # the target is missed: 1.6 to 2.4 since the kernel is asked who holds a device; this holds what is reached
    assert own <= 3.5 * virsh, found


def test_a_verified_attach_is_reported_with_what_is_cedes_own(
    host: Host, measured: Measured, soak: bool
) -> None:
    found = figures(rounds(host, "attach", 5 if soak else 2))
    (warm,) = (each for each in found if (each.work, each.by) == (OWN_SHARE, WARM))
    measured.report(
        f"verified attach {warm.median:.2f} s, of which cede's own {warm.share:.0%} (target 15 %)"
    )
    # the target is missed where Python runs under emulation: 30 to 39 %; this holds what is reached
    assert warm.share <= 0.6, found


def test_a_release_takes_little_longer_than_the_three_commands(
    host: Host, measured: Measured, soak: bool
) -> None:
    """`virsh detach-device`, `xl pci-assignable-remove` and `virsh nodedev-reattach`."""
    found = rounds(host, "release", 5 if soak else 1)
    own, by_hand = (median(one[whose] for one in found) for whose in ("cede", "by hand"))
    measured.report(
        f"release {own:.2f} s, by hand {by_hand:.2f} s: {own / by_hand:.2f} (target 1.2)"
    )
    # the target is missed: 1.8 to 2.6 since the host is looked at again before each action; this holds what is reached
    assert own <= 3.5 * by_hand, found
