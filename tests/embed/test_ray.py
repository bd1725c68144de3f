"""Ray Data makes the same bytes as one process, also if a worker is killed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.encoding import bytes_of, encoder
from support.reading import environment
from support.world import World

from _newsclippings.embed import ray_pipeline
from newsclippings import MissingDependencyError, embed

SCRIPT = """
import os, signal, sys
from pathlib import Path
import ray
from support.encoding import encoder
from newsclippings import ConfigError, embed
out, data = map(Path, sys.argv[1:])
mark = out / "killed"

def encode(batch):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return encoder().encode(batch)

out.mkdir()
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
made = [embed(out / "pictures", encoder(encode=encode), data_dir=data, part_size=7, engine="ray").made, mark.exists()]
made += [embed(out / "captions", encoder("captions"), data_dir=data, part_size=16, engine="ray").made]
try:
    embed(out / "zero", encoder(encode=lambda batch: 0 * encoder().encode(batch)), data_dir=data, engine="ray")
except ConfigError as error:
    made += [str(error)]
print()
print("made", made)
"""


@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra ray")
def test_ray_makes_the_same_bytes(world: World, tmp_path: Path) -> None:
    """On a local cluster of two workers, one of which is killed at its first batch; errors come out as they are."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(out), str(world.root)]
    done = subprocess.run(command, env=environment(tmp_path / "hf"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (made,) = [line for line in done.stdout.splitlines() if line.startswith("made ")]
    assert made.startswith("made [6, True, 2, 'The vector of id "), done.stdout
    embed(tmp_path / "pictures", encoder(), data_dir=world.root, part_size=7)
    embed(tmp_path / "captions", encoder("captions"), data_dir=world.root, part_size=16)
    for name in ("pictures", "captions"):
        assert bytes_of(out / name) == bytes_of(tmp_path / name)


def test_without_ray_the_extra_is_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    monkeypatch.setattr(ray_pipeline, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'newsclippings\[ray\]'"):
        embed(tmp_path / "out", encoder(), data_dir=world.root, engine="ray")
    assert not (tmp_path / "out").exists()
