"""Follow the policy's files: read them again when they have changed, and keep to the last right policy meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from cede.errors import PolicyError, TransientError
from cede.model.policy import Policy
from cede.policy.policy_files import STABLE_SECONDS


class PolicyWatcher:
    """Follows the policy's files: `read` reads them, `fingerprint` changes when they change.

    `report` gets each new policy, and the error of each wrong one. `policy` is the last valid policy, `rejected` the
    error of the present files, None if they are followed. If the files are wrong at the start, `fallback` is followed;
    without one PolicyError is raised.
    """

    def __init__(
        self,
        read: Callable[[], Policy],
        fingerprint: Callable[[], object],
        clock: Callable[[], float],
        report: Callable[[Policy | PolicyError], None],
        fallback: Policy | None = None,
    ) -> None:
        self._read = read
        self._fingerprint = fingerprint
        self._clock = clock
        self._report = report
        self._accepted = self._rejected = fingerprint()
        self._new: tuple[object, float] | None = None
        self.rejected: PolicyError | None = None
        try:
            self.policy = read()
        except PolicyError as wrong:
            if fallback is None:
                raise
            self.policy, self.rejected = fallback, wrong
            report(wrong)

    @property
    def changing(self) -> bool:
        """Whether the files changed too recently to be read."""
        return self._new is not None

    def reload(self, *, forced: bool) -> bool:
        """Read the files if they changed and are stable, or at once if `forced`; return whether the policy changed."""
        found = self._fingerprint()
        if not forced and not self._is_stable(found):
            return False
        self._new = None
        try:
            policy = self._read()
        except TransientError:  # still being written
            self._new = (found, self._clock())
            return False
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
        """Whether the files differ from those read last, and have not changed for a moment."""
        if found == self._accepted != self._rejected:  # a wrong file was put back as it had been
            return True
        if found in (self._accepted, self._rejected):
            self._new = None
            return False
        if self._new is None or self._new[0] != found:
            self._new = (found, self._clock())
            return False
        return self._clock() - self._new[1] >= STABLE_SECONDS
