"""The sos plugin for cede: what `cede doctor --root` needs of a host, in a sosreport.

Copy it to the folder `sos/report/plugins` of sos, then `sos report -o cede,kernel,xen`.
Source: sos, sos/report/plugins/__init__.py (Plugin.add_copy_spec, add_cmd_output, do_path_regex_sub).
"""

from __future__ import annotations

from sos.report.plugins import IndependentPlugin, Plugin

_FUNCTION = "/sys/bus/pci/devices/*"


class Cede(Plugin, IndependentPlugin):  # type: ignore[misc]  # sos has no types
    """Collects the files that cede reads, and what it was answered."""

    short_desc = "cede, which gives PCI devices to Xen guests"
    plugin_name = "cede"
    profiles = ("virt",)
    packages = ("cede",)
    commands = ("cede",)

    def setup(self) -> None:
        """Name what is copied and run; `sos clean` replaces names and addresses in all of it."""
        self.add_copy_spec(
            [
                *(
                    f"{_FUNCTION}/{name}"
                    for name in (
                        "uevent",
                        "driver",
                        "driver_override",
                        "config",
                        "modalias",
                        "boot_vga",
                        "max_link_speed",
                        "enable",
                        "power_state",
                        "power/runtime_status",
                        "physfn",
                        "virtfn*",
                        "net/*/address",
                    )
                ),
                "/sys/bus/pci/drivers/pciback/slots",
                "/sys/bus/pci/drivers/pciback/permissive",
                "/sys/hypervisor/type",
                "/sys/hypervisor/properties/features",
                "/proc/cmdline",
                "/proc/modules",
                "/proc/sys/kernel/osrelease",
                "/etc/modules",
                "/etc/modules-load.d",
                "/etc/modprobe.d",
                "/etc/initramfs-tools/modules",
                "/etc/dracut.conf.d",
                "/etc/cede/policy.yaml",
                "/etc/cede/policy.d/*.yaml",
                "/etc/libvirt/libxl/*.xml",
            ]
        )
        self.add_cmd_output(
            [
                "cede report --answers",
                "cede doctor --json",
                "cede devices --json",
                "cede status --json",
                "cede history --json",
            ]
        )

    def postproc(self) -> None:
        """Remove the passwords of guests' displays."""
        self.do_path_regex_sub(
            r"/etc/libvirt/libxl/.*\.xml", r"(passwd\s*=\s*)(?:'[^']*'|\"[^\"]*\")", r"\1'********'"
        )
