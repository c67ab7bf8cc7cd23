"""The simulated host's commands as the agent does them: the real server at a real socket, and the real client."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from cede.api.messages import Peer
from unit.test_agent import served_agent
from unit.test_asking import reached_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cede.adapters.ports import Adapters
    from cede.adapters.runtime import LibvirtAccess, Runtime
    from sim.in_files import SimulatedHost


def root(_: object) -> Peer:
    """Whoever runs the tests."""
    return Peer(uid=0, gid=0, pid=1)


@contextmanager
def by_the_agent(host: SimulatedHost, near: Path) -> Iterator[Callable[[], Runtime]]:
    """Makes the runtime of a command that asks the agent, which runs as root or not, as the host is said to be."""
    with ExitStack() as stack:
        runs_as: list[bool] = []

        def runtime() -> Runtime:
            if runs_as != [host.is_root]:
                stack.close()
                runs_as[:] = [host.is_root]
                stack.enter_context(served_agent(host, near, root))
            return replace(reached_at(near, host.runtime()), open_adapters=_not_here)

        yield runtime


def _not_here(_runtime: Runtime, _access: LibvirtAccess) -> AbstractContextManager[Adapters]:
    raise AssertionError("the command did the work itself")
