"""Who is at the other end of a unix socket.

Source: unix(7), SO_PEERCRED; the kernel fills it in at connect(2), so nobody can claim to be another.
"""

from __future__ import annotations

import pwd
import socket
import struct

from cede.api.messages import Peer

_UCRED = struct.Struct("3i")


def peer_of(connection: socket.socket) -> Peer:
    """Return who opened the connection; raises OSError if the kernel can't tell."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(said)
    return Peer(uid=uid, gid=gid, pid=pid)


def user_name(uid: int) -> str:
    """Return the name of a user, or `uid 1234` for one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return f"uid {uid}"
