"""Inputs that change while they are read give rows of one version or a clear error, and correct rows afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.changing import CHANGES, CONTENTS, WAYS, make_case, moments, problem
from support.reading import environment
from support.world import World

from _newsclippings.folder import build
from _newsclippings.folder.build import build_folder
from _newsclippings.rows import join_config
from newsclippings import BadFileError


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", CONTENTS)
@pytest.mark.sweep
def test_an_input_that_changes_while_it_is_read(tmp_path: Path, what: str, how: str) -> None:
    """The file changes at its first, middle or last read; `python -m tests.sweeps.soak` tries more moments."""
    if how == "parquet" and what == "embeddings" and int(pa.__version__.partition(".")[0]) < 26:
        pytest.skip("`datasets` writes rows without a vector with pyarrow 26 only")
    case = make_case(tmp_path / "data", what)
    many = moments(case, tmp_path / "dry", how)
    for change in CHANGES:
        for moment in sorted({1, many // 2, many} | ({2, many - 1} if how != "parquet" else set())):
            place = tmp_path / f"{change} {moment}"
            assert problem(case, place, change, moment, how) is None, f"{change} at {moment} of {many}"


def test_a_built_folder_has_one_version_of_the_inputs(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an input changes after it was joined, `build` fails and leaves no folder."""
    world = new_world(tar=False)

    def change(*args: Any) -> Any:
        joined = join_config(*args)
        os.utime(world.annotations("merged_balanced", "test"))
        return joined

    monkeypatch.setattr(build, "join_config", change)
    with pytest.raises(BadFileError, match="changed since the build began"):
        build_folder(tmp_path / "out", ["merged_balanced"], data_dir=str(world.root))
    assert not (tmp_path / "out").exists()


SPAWNED = """
import json, sys
import multiprocess

import newsclippings
from _newsclippings.rows.joiner import Joiner

root, change, gone = sys.argv[1:]

look_for_all = Joiner.check

def check(self, joined):  # called when all is joined, in this process only
    import os
    look_for_all(self, joined)
    if change == "yes":
        os.unlink(gone)

if __name__ == "__main__":
    multiprocess.set_start_method("spawn")
    Joiner.check = check
    builder = newsclippings.NewsCLIPpings(data_dir=root, visual_news=root + "/visual_news/origin", missing="null")
    try:
        builder.download_and_prepare(num_proc=2)
    except newsclippings.NewsCLIPpingsError as error:
        print(json.dumps(str(error)))
    else:
        rows = builder.as_dataset(split="train")
        print(json.dumps([len(rows), sum(image is None for image in rows.data.column("image").to_pylist())]))
"""


@pytest.mark.parametrize("change", ["no", "yes"])
@pytest.mark.sweep
def test_spawned_workers_refuse_inputs_that_changed(
    new_world: Callable[..., World], tmp_path: Path, change: str
) -> None:
    """A spawned worker reads the inputs itself; rows that differ from the join report are an error."""
    world = new_world(tar=False)
    (tmp_path / "spawned.py").write_text(SPAWNED)
    gone = str(world.origin / world.used_once().image_path)
    command = [sys.executable, "spawned.py", str(world.root), change, gone]
    env = environment(tmp_path / "hf")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if change == "no":
        assert found == [len(world.rows()), 0]
    else:
        assert "one of the input files changed since the build began" in found
