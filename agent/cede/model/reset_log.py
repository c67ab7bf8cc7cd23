"""How dom0's kernel words the end of a reset: the device came back, or was given up.

A line that only says that the kernel is still waiting ("not ready 1023ms after FLR; waiting") is neither.
Source: Linux, drivers/pci/pci.c (pci_dev_wait); before Linux 4.13 pci_flr_wait there.
"""

from __future__ import annotations

RESET_CAME_BACK = r"ready \d{1,9}ms after [^;]{1,40}$"
RESET_GIVEN_UP = r"(?:not ready \d{1,9}ms after [^;]{1,40}; giving up|[Ff]ailed to return from FLR)"
