"""Who logs in at a guest's console, and which logins a guest has refused: a second try could lock the account."""

from __future__ import annotations

from dataclasses import dataclass, field

from cede.guest import secret_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and a password for one guest; the password is never shown."""

    guest: str
    user: str
    password: str = field(repr=False)

    @property
    def refused(self) -> bool:
        """Whether the guest has refused exactly this one to this process."""
        return self in _refused

    def note_refusal(self) -> None:
        """Remember that the guest has refused it."""
        _refused.add(self)


_refused: set[Login] = set()


def read(guest: str, user: str, password_file: str) -> Login:
    """The login for `guest` (a domain's UUID). Raises PermanentError if the file isn't there or isn't secret."""
    return Login(guest=guest, user=user, password=secret_file.first_line(password_file))
