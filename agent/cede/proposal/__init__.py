"""A policy proposed from what others wrote: xl's files, libvirt's domains, xen-pciback's `hide=`.

wanted (each source -> what it wants), merge (all of that, held against the host and its policy -> one proposal), text
(the proposal -> YAML, with a comment on all that could not be carried over).
"""

from __future__ import annotations

from cede.proposal.merge import Proposal, ProposedAssignment, ProposedDevice, propose
from cede.proposal.text import policy_text
from cede.proposal.wanted import Found, Wanted, of_domains, of_guest, of_hide

__all__ = [
    "Found",
    "Proposal",
    "ProposedAssignment",
    "ProposedDevice",
    "Wanted",
    "of_domains",
    "of_guest",
    "of_hide",
    "policy_text",
    "propose",
]
