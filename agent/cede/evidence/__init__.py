"""What proves that a guest has a device: wanted against found, judged from values alone.

Each finding stands for itself; an assignment is proven when none of its findings is wrong and none is open. What rests
on the guest's word alone has a source that begins with "guest"; everything else dom0 or Xen says.
"""

from cede.evidence.finding import (
    Finding,
    Verdict,
    judged,
    noted,
    proven,
    refused,
    settled,
    unproven,
)
from cede.evidence.inside import of_guest
from cede.evidence.outside import of_dom0, of_kernel_log, of_permissive, of_xen, of_xenstore

__all__ = [
    "Finding",
    "Verdict",
    "judged",
    "noted",
    "of_dom0",
    "of_guest",
    "of_kernel_log",
    "of_permissive",
    "of_xen",
    "of_xenstore",
    "proven",
    "refused",
    "settled",
    "unproven",
]
