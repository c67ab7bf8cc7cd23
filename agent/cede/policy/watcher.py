"""The policy that a daemon follows: read again when its files change, kept as it was while they are wrong.

A file that an editor is in the middle of writing may be a right policy that wants less; so files are read only once
they have stayed the same for a moment, and what changed while it was read is not believed.
"""

from __future__ import annotations

from collections.abc import Callable

from cede.errors import PolicyError
from cede.model.policy import Policy

STABLE_SECONDS = 0.5


class PolicyWatcher:
    """`read` reads the files, `fingerprint` tells whether they changed, `tell` hears of a policy that is new or wrong.

    `policy` is the last right one, `rejected` why the files as they are now aren't followed, None if they are.
    Making one raises PolicyError if the files are wrong: there is nothing to follow then.
    """

    def __init__(
        self,
        read: Callable[[], Policy],
        fingerprint: Callable[[], object],
        clock: Callable[[], float],
        report: Callable[[Policy | PolicyError], None],
    ) -> None:
        self._read = read
        self._fingerprint = fingerprint
        self._clock = clock
        self._report = report
        self._accepted = self._rejected = fingerprint()
        self._new: tuple[object, float] | None = None
        self.rejected: PolicyError | None = None
        self.policy = read()

    @property
    def changing(self) -> bool:
        """Whether the files changed too short a time ago to be read."""
        return self._new is not None

    def reload(self, *, forced: bool) -> bool:
        """Read the files if they changed and have settled, or at once if `forced`; whether there is a new policy."""
        found = self._fingerprint()
        if not forced and not self._is_stable(found):
            return False
        self._new = None
        try:
            policy = self._read()
        except PolicyError as wrong:
            self._rejected, self.rejected = found, wrong
            self._report(wrong)
            return False
        if self._fingerprint() != found:
            self._new = (found, self._clock())
            return False
        self._accepted = self._rejected = found
        changed, mended = policy != self.policy, self.rejected is not None
        self.policy, self.rejected = policy, None
        if changed or mended:
            self._report(policy)
        return changed

    def _is_stable(self, found: object) -> bool:
        """Whether the files are others than those that were read last, and have been so for a moment."""
        if found == self._accepted != self._rejected:  # what was wrong was put back as it had been
            return True
        if found in (self._accepted, self._rejected):
            self._new = None
            return False
        if self._new is None or self._new[0] != found:
            self._new = (found, self._clock())
            return False
        return self._clock() - self._new[1] >= STABLE_SECONDS
