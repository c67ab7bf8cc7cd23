"""What is measured, by whose commands, and the targets, as data."""

from dataclasses import dataclass

# the works, by the names that figures and tables use
VERIFIED_ATTACH = "verified attach"
PLAIN_ATTACH = "attach without asking the guest"
RELEASE = "release to a working device"
NOTHING_TO_DO = "nothing to do"
STATUS = "status"
MANY = "several devices at once"
VERSION = "--version"
OWN_SHARE = "breakdown of a verified attach"
PUT_BACK = "behind its back to verified again"
PLANNING = "resolve, plan and assess, native"

WORKS = (
    VERIFIED_ATTACH, PLAIN_ATTACH, RELEASE, NOTHING_TO_DO, STATUS, MANY, VERSION, OWN_SHARE, PUT_BACK, PLANNING,
)  # fmt: skip

# who does a work: cede as a command of its own or as one that asks the agent, and the tools that it stands beside
NO_AGENT = "cede, no agent"
AGENT = "cede, agent"
VIRSH = "virsh"
XL = "xl"
# of the breakdown: a command of its own; the same in a process that has imported everything, as the agent has; what
# `virsh detach-device` took, put back in that process
COLD, WARM, RESTORE = "command", "warm process", "warm process, put back"
DAEMON = "cede run"
SMALL, LARGE = "10,000 devices, 2,000 domains", "20,000 devices, 4,000 domains"

MEGABYTE = 1000  # kilobytes, as /proc counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure that is not to exceed `at_most`.

    `kind` says how the figure is made, and `unit` what it is in: "" for a ratio, "%", "s" or "MB". `work` and `against`
    are what a ratio compares.
    """

    name: str
    at_most: float
    kind: str
    work: str = ""
    against: str = ""
    unit: str = ""


RATIO, SHARE, BEYOND, PLAN_SECONDS, PLAN_MEMORY, PLAN_GROWTH = (
    "ratio", "share", "beyond", "plan seconds", "plan memory", "plan growth",
)  # fmt: skip


def _ratio(name: str, at_most: float, work: str, against: str = VIRSH) -> Target:
    return Target(name=name, at_most=at_most, kind=RATIO, work=work, against=against)


TARGETS = (
    _ratio("verified attach / the virsh script", 0.6, VERIFIED_ATTACH),
    _ratio("verified attach / the xl script", 0.9, VERIFIED_ATTACH, XL),
    _ratio(
        "attach without asking the guest / virsh nodedev-detach + attach-device + two dumpxml",
        0.9,
        PLAIN_ATTACH,
    ),
    _ratio(
        "release to a working device / virsh detach-device + xl pci-assignable-remove + virsh nodedev-reattach",
        1.2,
        RELEASE,
    ),
    _ratio("nothing to do / virsh dumpxml over the domains", 0.5, NOTHING_TO_DO),
    _ratio("status / virsh list --all + nodedev-list", 0.6, STATUS),
    _ratio("eight devices into four guests / virsh one after another", 0.4, MANY),
    _ratio("cede --version / virsh --version", 1.5, VERSION),
    Target(name="cede's own share of a verified attach", at_most=15, kind=SHARE, unit="%"),
    Target(
        name="behind its back to verified again, beyond the attach itself",
        at_most=0.5,
        kind=BEYOND,
        unit="s",
    ),
    Target(
        name="resolve, plan and assess for 10,000 devices and 2,000 domains, one core, native",
        at_most=0.5,
        kind=PLAN_SECONDS,
        unit="s",
    ),
    Target(name="the same: memory at most", at_most=64, kind=PLAN_MEMORY, unit="MB"),
    Target(name="the same: linear, so twice as many / as many", at_most=2.4, kind=PLAN_GROWTH),
)
