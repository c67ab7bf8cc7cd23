"""Virtual functions made and set up: each effect is read back, since a driver may take a setting and not keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import PermanentError, TransientError
from cede.util.retry import wait_until

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.model.actions import ConfigureVirtualFunction, SetVirtualFunctions

_SETTLE_SECONDS = 10.0
_PAUSE = 0.2


def make_functions(adapters: Adapters, action: SetVirtualFunctions) -> None:
    """Have the driver make them, and wait until the kernel, udev and libvirt know them.

    Raises PermanentError if the kernel refuses or makes another number, HungError if it doesn't return.
    """
    address, sysfs = action.address, adapters.sysfs
    adapters.timeouts.call(
        f"making virtual functions of {address}",
        lambda: sysfs.set_virtual_functions(address, action.count, probed=action.probed),
    )
    found = sysfs.virtual_functions(address)
    if found is None or (found.count, found.probed) != (action.count, action.probed):
        raise PermanentError(
            f"{address} has {found.count if found else 'no'} virtual functions after {action.count} were asked for",
            name="virtual-functions-not-made",
            remedy="see the end of dom0's kernel log (dmesg)",
        )
    adapters.kernel.await_udev(_SETTLE_SECONDS)
    names = {
        device.address.node_device
        for device in sysfs.devices()
        if device.physical_function == address
    }
    # an assignment of one is refused as long as libvirt doesn't list it, which is tried again
    wait_until(
        lambda: (
            names <= adapters.timeouts.call("listing node devices", adapters.libvirt.node_devices)
        ),
        _SETTLE_SECONDS,
        adapters.clock,
        pause=_PAUSE,
    )


def set_up_function(adapters: Adapters, action: ConfigureVirtualFunction) -> None:
    """Set it up, and read back what its driver keeps; the physical function is switched on, as guests' drivers need it.

    Raises TransientError while the physical function has no interface, PermanentError if the driver can't do it.
    """
    address, index = action.address, action.index
    names = adapters.sysfs.interfaces(address)
    if not names:
        raise TransientError(
            f"{address} has no network interface, by which its virtual functions are set up",
            name="no-interface",
        )
    adapters.timeouts.call(f"switching {names[0]} on", lambda: adapters.links.switch_on(names[0]))
    adapters.timeouts.call(
        f"setting up virtual function {index} of {address}",
        lambda: adapters.links.set_up_function(names[0], index, action.settings),
    )
    kept = adapters.links.functions(names[0])
    missing = action.settings.beyond(kept[index]) if index < len(kept) else action.settings
    if missing.said:
        raise PermanentError(
            f"the driver of {names[0]} took the settings of virtual function {index}, and does not keep {missing}",
            name="function-setting-lost",
            remedy="take what it can't do out of `virtual_functions` in the policy",
        )
