"""On whose behalf this process runs."""

from __future__ import annotations

import os


def user() -> str:
    """Return the person behind sudo, pkexec or a login, else the account."""
    import getpass

    name = os.environ.get("SUDO_USER") or os.environ.get("PKEXEC_UID")
    account = getpass.getuser()
    return f"{name} as {account}" if name and name != account else account
