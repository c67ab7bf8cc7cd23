"""The demo's graphics card: the scene of 2012, with the collision that could not be cured then."""

from .telling import Telling

CARD, SOUND = "0000:09:00.0", "0000:09:00.1"
VGA = "VGA compatible controller: Advanced Micro Devices, Inc. [AMD/ATI]"
GUEST, LARGE = "pv1", "pv4"
COLLISION = "address conflict with System RAM"
OFFLINE = "Device offline. Try using e820_host=1"
CLAIMED = "claiming resource 0000:00:00.0/2"  # the last of its BARs
NO_BOUNCE_BUFFERS = "Could not setup SWIOTLB"
BELOW_THE_CARD = "2G"
LOG = "/tmp/pv4.log"
VIRSH = ("virsh", "-q", "-c", "xen:///system")
POLICY = f"""\
version: 1
devices:
  graphics: {{match: {{class: "0300", vendor: "1002"}}, functions: all}}
assignments:
  - {{device: graphics, domain: {GUEST}, restart: when-asked, verify: {{guest: none}}}}
"""
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='no'><source>"
    "<address domain='0' bus='9' slot='0' function='{}'/></source></hostdev>\n"
)


def walk(telling: Telling) -> None:
    """Give the card with its sound and take both back; collide, and cure that.

    Raises UntrueError where something isn't as it is told.
    """
    _give(telling)
    _take_back(telling)
    _collide(telling)
    _diagnose(telling)
    _apply_remedy(telling)


def _give(telling: Telling) -> None:
    telling.say(
        "Now the graphics card of 2012, found by its class, with all its functions. They are reset together, so that"
        " a running guest can't be given them: all is done but the guest's restart (exit status 4: work is left)."
    )
    telling.write("/etc/cede/policy.yaml", POLICY)
    telling.show(POLICY)
    telling.host("cede", "apply", "--yes", status=4)
    telling.say(
        "The policy lets cede restart the guest when it is asked to. It does not have cede ask the guest for a driver,"
        " since this one has none for such a card."
    )
    telling.host("cede", "apply", "--restart", "--yes")
    telling.say("The guest's own lspci:")
    shown = telling.guest(GUEST, "lspci -k")
    telling.must(VGA in shown, "the guest does not see the graphics card")
    telling.must("snd_hda_intel" in shown, "the guest does not drive the card's sound")


def _take_back(telling: Telling) -> None:
    telling.say("And back: the whole card, and dom0's sound driver has its half again.")
    telling.host("cede", "release", "graphics")
    driver = telling.host("readlink", f"/sys/bus/pci/devices/{SOUND}/driver")
    telling.must(driver.strip().endswith("snd_hda_intel"), "dom0 does not drive the sound again")


def _collide(telling: Telling) -> None:
    telling.say(
        f"{LARGE} has 4,200 MiB and does not see the host's memory map. The card is given to it by hand, as in 2012,"
        " and its memory lies where the guest has its own."
    )
    for function, address in enumerate((CARD, SOUND)):
        file = f"/tmp/function{function}.xml"
        telling.write(file, HOSTDEV.format(function))
        name = "pci_" + address.replace(":", "_").replace(".", "_")
        telling.host(*VIRSH, "nodedev-detach", name)
        telling.host(*VIRSH, "attach-device", LARGE, file, "--config")
    telling.host(*VIRSH, "start", LARGE)
    said = _kernel_log(telling, OFFLINE)
    _show_lines(telling, said, COLLISION, OFFLINE)
    telling.must(COLLISION in said and OFFLINE in said, "the card's memory did not collide")
    telling.write(LOG, said)


def _diagnose(telling: Telling) -> None:
    telling.say("cede's doctor is shown what the guest's kernel said.")
    found = telling.host("cede", "doctor", CARD, LARGE, "--guest-log", LOG, status=1)
    telling.must("(bar-unclaimed)" in found, "the doctor has not found the collision")
    said = telling.host(
        "cede", "doctor", CARD, LARGE, "--guest-log", LOG, "--fix", "--yes", status=1
    )
    telling.must("e820" in said, "the doctor fixed something else")


def _apply_remedy(telling: Telling) -> None:
    telling.say(f"The cure needs a restart of {LARGE}; its kernel then says:")
    said = _restart(telling)
    telling.must(COLLISION not in said, "the card's memory still collides")
    if NO_BOUNCE_BUFFERS in said:
        said = _make_smaller(telling)
    telling.must(CLAIMED in said, "the guest can't use the card's memory")
    shown = telling.guest(LARGE, "lspci")
    telling.must(VGA in shown, f"{LARGE} does not see the graphics card")


def _make_smaller(telling: Telling) -> str:
    telling.say(
        "The collision is gone, but this kernel finds no contiguous memory for what devices read and write. The"
        " other way out is less memory than 4 GiB, below that of the card."
    )
    for limit in ("setmaxmem", "setmem"):
        telling.host(*VIRSH, limit, LARGE, BELOW_THE_CARD, "--config")
    return _restart(telling)


def _restart(telling: Telling) -> str:
    telling.host(*VIRSH, "destroy", LARGE)
    telling.host(*VIRSH, "start", LARGE)
    said = _kernel_log(telling, CLAIMED, NO_BOUNCE_BUFFERS)
    _show_lines(telling, said, CLAIMED, NO_BOUNCE_BUFFERS)
    return said


def _kernel_log(telling: Telling, *expected: str) -> str:
    """What the guest's kernel said, once one of these is in it: pcifront comes a moment after the guest's shell."""
    patterns = " ".join(f"-e '{line}'" for line in expected)
    wait = f"for i in $(seq 60); do dmesg | grep -qF {patterns} && break; sleep 0.5; done; dmesg"
    return telling.guest(LARGE, wait, show=False)


def _show_lines(telling: Telling, log: str, *wanted: str) -> None:
    lines = [line for line in log.splitlines() if any(one in line for one in wanted)]
    telling.show("\n".join(line.strip() for line in lines))
