"""A free TCP port of 127.0.0.1, so that several labs can run on one machine."""

import socket


def free_port() -> int:
    """A port that was free a moment ago; who uses it must be ready to find it taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
