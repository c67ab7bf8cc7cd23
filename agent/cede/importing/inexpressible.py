"""What an xl.cfg says and libvirt's XML has no place for: each word is named, so that none is lost.

A word that says what is Xen's default anyway loses nothing.
Sources: xl.cfg(5) of Xen 4.17 to 4.21, tools/xl/xl_parse.c, xl-pci-configuration(5); libvirt, src/libxl/libxl_conf.c
(libxlMakeDomBuildInfo, libxlMakePCI), xen_common.c (xenParsePCI), xen_xl.c (xenParseXLUSBController) and
https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cede.importing.xl_cfg_syntax import Atom, Listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cede.importing.xl_cfg import XlDevice
    from cede.importing.xl_cfg_syntax import Value

_UNKNOWN = "libvirt can't express it"
_NO_PCI = "a policy assigns PCI devices alone"
# of the whole guest; what stands for each device by itself is in `of_device`
_WORDS = {
    "gfx_passthru": f"{_UNKNOWN}, so the guest gets the card as a further one beside the emulated one",
    "rdm_mem_boundary": f"{_UNKNOWN}, and Xen's default is 2048 MB",
    "mmio_hole": f"{_UNKNOWN}; large BARs may need a guest whose firmware places them above 4 GB",
    "hvm_pirq": f"{_UNKNOWN}, and since 4.19 Xen lets no HVM guest have interrupts of devices as event channels",
    "iomem": f"{_UNKNOWN}, so the guest can't reach that memory of the host",
    "ioports": f"{_UNKNOWN}, so the guest can't reach these ports of the host",
    "irqs": f"{_UNKNOWN}, so the guest gets none of these interrupts of the host",
    "dtdev": f"{_UNKNOWN}; {_NO_PCI}",
    "device_tree": f"{_UNKNOWN}; {_NO_PCI}",
    "usbctrl": f"{_NO_PCI}; libvirt has <controller type='usb' model='qusb2'/> (or qusb1) alone",
    "usbdev": f"{_NO_PCI}; libvirt has <hostdev type='usb'>",
}
# of the guest, and nothing to do with devices
_OTHERS = (
    "pool", "cpus_soft", "on_watchdog", "on_soft_reset", "pvshim", "pvshim_path", "pvshim_cmdline", "pvshim_extra",
    "init_seclabel", "max_maptrack_frames", "max_grant_version", "nomigrate", "driver_domain",
    "xend_suspend_evtchn_compat", "vmtrace_buf_kb", "vpmu", "xenstore_feature_mask", "xenstore_quota", "vtpm",
    "pvcalls", "vdispl", "vsnd", "vkb", "virtio", "tee", "dm_restrict", "device_model_user", "bootloader_restrict",
    "bootloader_user", "hdtype", "oos", "shadow_memory", "bios_path_override", "acpi_laptop_slate", "altp2m",
    "altp2mhvm", "altp2m_count", "smbios_firmware", "smbios", "ms_vm_genid", "vpt_align", "timer_mode", "nographic",
    "spicevdagent", "spiceusbredirection", "spice_image_compression", "spice_streaming_video", "usbversion",
    "vendor_device", "stubdomain_kernel", "stubdomain_cmdline", "stubdomain_ramdisk", "stubdomain_memory",
    "device_model_stubdomain_override", "device_model_stubdomain_seclabel", "mca_caps", "msr_relaxed",
)  # fmt: skip
# the same, which Xen has on where nothing is said
_ON_BY_ITSELF = ("xen_platform_pci", "xen_platform_pci_bar_uc", "acpi_s3", "acpi_s4")
_OFF = {"", "0", "none"}
_DEFAULT_MODES = {"enabled", "default", "unknown"}
_HOST_USB = re.compile(r"host:[0-9A-Fa-f]+[:.][0-9A-Fa-f]+")
_MAX_QUOTE = 60


def of_guest(settings: Mapping[str, Value]) -> Iterator[str]:
    """Return a note on each of the guest's own settings that is lost, with its place."""
    for name, why in _WORDS.items():
        value = settings.get(name)
        if value is not None and _said(value) not in _OFF:
            yield _note(name, value, why)
    for name in _OTHERS:
        value = settings.get(name)
        if value is not None and _said(value) not in _OFF:
            yield _note(name, value, _UNKNOWN)
    for name in _ON_BY_ITSELF:
        value = settings.get(name)
        if value is not None and _said(value) == "0":
            yield _note(name, value, f"{_UNKNOWN}, and Xen has it on")
    reserved = settings.get("rdm")
    if isinstance(reserved, Atom) and "strategy=host" in reserved.text.split(","):
        yield _note(
            "rdm", reserved, f"{_UNKNOWN}, so Xen reserves no memory for devices that come later"
        )
    mode = settings.get("passthrough")
    if isinstance(mode, Atom) and mode.text not in _DEFAULT_MODES:
        yield _note(
            "passthrough", mode,
            "a policy has no word for it; libvirt has <passthrough state='on' mode='...'/> in <features><xen>, and "
            "`cede plan` switches it on in the mode that Xen chooses",
        )  # fmt: skip
    device = settings.get("usbdevice")
    if device is not None and _HOST_USB.search(_said(device)):
        yield _note("usbdevice", device, f"{_NO_PCI}; libvirt has <hostdev type='usb'>")


def of_device(device: XlDevice) -> Iterator[str]:
    """Return a note on each option of the device that is lost; one of the guest's has the name that it has there."""
    spec = device.spec
    if spec.vslot is not None:
        yield f"vslot={spec.vslot:x} is not carried over: under libvirt Xen chooses the slot in the guest"
    if spec.msitranslate:
        name = device.called("msitranslate")
        yield f"{name}=1 is not carried over: {_UNKNOWN}, and Xen's default is 0"
    if spec.power_mgmt:
        name = device.called("power_mgmt")
        yield f"{name}=1 is not carried over: {_UNKNOWN}, and Xen's default is 0"
    if spec.rdm_policy is not None:
        name = device.called("rdm_policy")
        yield f"{name}={spec.rdm_policy} is not carried over: {_UNKNOWN}, and Xen's default is strict"
    if spec.take_from_driver is not None:
        name = device.called("seize")
        yield (
            f"{name}={spec.take_from_driver:d} is not carried over: cede always takes a device from "
            "its driver"
        )


def _note(name: str, value: Value, why: str) -> str:
    return f"{value.place}: {name}={_said(value)[:_MAX_QUOTE]} is not carried over: {why}"


def _said(value: Value) -> str:
    """The value as text; an empty list is empty."""
    if isinstance(value, Listed):
        return ", ".join(_said(item) for item in value.items)
    return value.text.strip()
