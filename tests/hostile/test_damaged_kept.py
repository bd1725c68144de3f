"""A cached copy of a remote tar with any damage gives the right rows, by fetching the damaged part again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.remote import Origin, make_index, publish
from support.world import World
from sweeps.damaging import REMOTE, remote_kinds, sweep

pytestmark = pytest.mark.sweep


@pytest.mark.parametrize("kind", REMOTE)
def test_damage_of_a_cached_remote_tar(
    new_world: Callable[..., World], origin: Origin, tmp_path: Path, kind: str
) -> None:
    """A sample of `python -m tests.sweeps.damaging`: right rows each time, never an error or a signal."""
    remote = publish(new_world(folder=False, tar=False), origin, tmp_path.name)
    index = Path(make_index(remote.tar, remote.tar.with_name("index.parquet")))
    kinds = remote_kinds(remote, origin.url(index))
    outcomes, wrong = sweep(kind, remote.world, tmp_path / "sweep", 12, kinds=kinds)
    assert wrong == []
    assert outcomes == {"right rows": 12}
