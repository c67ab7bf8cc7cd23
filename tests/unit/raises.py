"""Expect an error of cede by its class and its name, which stay; its sentence may change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

from cede.errors import CedeError

if TYPE_CHECKING:
    from collections.abc import Iterator

Error = TypeVar("Error", bound=CedeError)


@contextmanager
def raises(
    kind: type[Error], name: str, *mentioned: object
) -> Iterator[pytest.ExceptionInfo[Error]]:
    """The block raises a `kind` of that name; each of `mentioned` (an address, a file, a domain) is in its message."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.name == name, caught.value.name
    for what in mentioned:
        assert str(what) in caught.value.message, caught.value.message
