"""The benchmarks run in an empty folder on a very small corpus, and report their results."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.reading import TESTS, environment

sys.path.append(str(TESTS.parent))  # last, because the tests may run against an installed package

from benchmarks import corpus, report
from benchmarks.__main__ import RECORDS, main
from benchmarks.check import digest
from benchmarks.measure import Result, Run, measure
from benchmarks.range_server import counted, reset
from benchmarks.works import WORKS, Contender, Work

OURS = Contender("ours", "floors.nothing")


@pytest.mark.sweep
def test_a_small_run_writes_table_ratios_and_plot(tmp_path: Path) -> None:
    """Our ratio is 1.00, others have a ratio or a reason; only the corpus and the results are left behind."""
    command = [sys.executable, "-m", "benchmarks", "--scale", "0.002", "--runs", "1", "--work", "work", "--out", "out"]
    command += ["--only", "captions_largest", "--only", "pictures_tar"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path / "hf"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert list(raw["works"]) == ["captions_largest", "pictures_tar"]
    for contender in (contender for work in raw["works"].values() for contender in work):
        absent = contender["needs"] and not importlib.util.find_spec(contender["needs"]) and contender["needs"] != "tar"
        assert contender["problem"] == (f"not installed: {contender['needs']}" if absent else ""), contender
        assert len(contender["runs"]) == (0 if absent else 1)
        assert all(run["seconds"] > 0 and run["peak"] > 1 << 20 for run in contender["runs"])
    text = (tmp_path / "out" / "benchmarks.md").read_text()
    assert done.stdout.strip() in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert len(rows) == len(WORKS["captions_largest"].contenders) + len(WORKS["pictures_tar"].contenders)
    assert [row[3] for row in rows if row[0]] == ["1.00", "1.00"]
    assert all(float(row[3].replace(",", "")) > 0 for row in rows if not row[-1].startswith("not installed"))
    assert (tmp_path / "out" / "benchmarks.png").exists() == bool(importlib.util.find_spec("matplotlib"))
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "work").iterdir()] == ["corpus-0.002"]


def test_every_contender_exists() -> None:
    """Every contender in the table is a function that exists, if its packages are installed."""
    for contender in (contender for work in WORKS.values() for contender in work.contenders):
        module, _, function = contender.run.partition(".")
        needs = {"shards": ["webdataset"], "loaders": ["webdataset", "torch", "transformers"]}.get(module, [])
        if all(map(importlib.util.find_spec, needs)):
            assert callable(getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function))


@pytest.mark.parametrize("scale", ["0", "2", "half", "nan"])
def test_a_scale_is_a_fraction(scale: str) -> None:
    """Any other scale is refused before anything is written."""
    result = CliRunner().invoke(main, ["--scale", scale])
    assert result.exit_code == 2
    assert "expected 'full' or a fraction" in result.output
    assert not Path("build").exists()


def test_a_corpus_is_deterministic(tmp_path: Path) -> None:
    """Two corpora of one size have the same bytes, in whatever order their parts were made."""
    parts = list(corpus.PARTS)
    corpus.make(tmp_path / "a", 0.0005, parts)
    for part in parts:
        corpus.make(tmp_path / "b", 0.0005, ["captions", part])
    files = {p.relative_to(tmp_path / "a"): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path / "b"): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert len(files) > 90
    assert corpus.RECORDS == RECORDS


@pytest.fixture
def modest(tmp_path: Path) -> Path:
    """A corpus with nothing in it."""
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def test_a_failing_contender_is_reported_and_the_others_run(modest: Path, tmp_path: Path) -> None:
    """The report has the error of a contender that fails and the package of one that is not installed."""
    tarfile.open(modest / "sparse.tar", "w").close()
    floor, large = Contender("lists", "floors.tar_list"), Contender("large", "floors.copy", until=0.1)
    absent, broken = Contender("absent", "floors.copy", "no_such_thing"), Contender("broken", "floors.copy")
    seen: list[str] = []
    work = Work("nothing", (), (floor, absent, broken, large))
    results = measure(work, {1: modest}, tmp_path / "run", seen.append, scale=0.5, runs=2, timeout=60)
    assert seen == ["lists", "absent", "broken", "large"] * 3
    assert [len(result.runs) for result in results] == [2, 0, 0, 0]
    assert results[1].problem == "not installed: no_such_thing"
    assert results[2].problem.startswith("failed: FileNotFoundError: ")
    assert results[3].problem == "not run above scale 0.1"
    assert not (tmp_path / "run").exists()
    table = report.table({"captions": report.lines(results)})
    assert "not installed: no_such_thing" in table


def test_a_run_that_takes_too_long_is_killed(modest: Path, tmp_path: Path) -> None:
    """After the timeout the process and its children are killed."""
    work = Work("nothing", (), (Contender("imports", "floors.import_datasets"),))
    (result,) = measure(work, {1: modest}, tmp_path / "run", lambda _: None, scale=1, runs=1, timeout=0.05)
    assert result.problem.startswith("failed: killed (after 0.05 s")


def test_ratios_are_medians_of_pairs() -> None:
    """Each run is compared with our run of the same round, so that a noisy round affects both."""
    ours = Result(OURS, [Run(1.0, 1.0, 100, 0), Run(4.0, 4.0, 100, 0), Run(1.0, 1.0, 100, 0)])
    other = Result(
        dataclasses.replace(OURS, label="other"),
        [Run(2.0, 2.0, 150, 0), Run(8.0, 8.0, 300, 0), Run(3.0, 3.0, 200, 0)],
    )
    first, second = report.lines([ours, other])
    assert (first.times, first.peaks) == (1, 1)
    assert (second.time, second.times, second.peaks) == (3, 2, 2)


def test_rows_are_compared_however_they_are_stored(tmp_path: Path) -> None:
    """The digest of rows ignores batches, file formats and label types, and changes with any value."""
    rows = {"index": [0, 1, 2], "id": [7, 7, 8], "image_id": [7, 9, 8], "caption": ["a", "b", "c"]}
    rows |= {"image_path": ["x", "y", "z"], "similarity_score": [1.0, 0.5, 1.0], "image_caption": ["a", "d", "c"]}
    table = pa.table({**rows, "falsified": [False, True, False]})
    labels = table.set_column(table.column_names.index("falsified"), "falsified", pa.array([0, 1, 0]))
    wrong = table.set_column(table.column_names.index("caption"), "caption", pa.array(["a", "b", "d"]))
    for name, written, size in (("a", table, 3), ("b", labels, 2), ("wrong", wrong, 3)):
        (tmp_path / name).mkdir()
        pq.write_table(written, tmp_path / name / "val.parquet", row_group_size=size)
    (tmp_path / "c").mkdir()
    with pa.ipc.new_stream(str(tmp_path / "c" / "x-validation.arrow"), labels.schema) as writer:
        writer.write_table(labels, 1)
    expected = digest(tmp_path / "a")
    assert expected is not None
    assert [digest(tmp_path / name) == expected for name in ("b", "c", "wrong")] == [True, True, False]
    assert digest(tmp_path / "nothing") is None


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a file of 1,000 bytes on a server."""
    file = tmp_path / "origin.tar"
    file.write_bytes(bytes(range(250)) * 4)
    command = [sys.executable, "-m", "benchmarks.range_server", str(file), "--delay", "0"]
    env = environment(tmp_path / "hf")
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/origin.tar"
        process.kill()


def test_the_server_sends_ranges_and_counts(url: str) -> None:
    """The server sends a file, a range or its end, and 416 beyond it; it counts bytes and requests until reset."""

    def fetch(wanted: str | None) -> tuple[int, bytes]:
        headers = {"Range": wanted} if wanted else {}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()

    content = bytes(range(250)) * 4
    assert fetch(None) == (200, content)
    assert fetch("bytes=10-19") == (206, content[10:20])
    assert fetch("bytes=990-") == (206, content[990:])
    assert fetch("bytes=-5") == (206, content[-5:])
    assert counted(url) == (1000 + 10 + 10 + 5, 4)
    with pytest.raises(urllib.error.HTTPError, match="416"):
        fetch("bytes=1000-1001")
    reset(url)
    assert counted(url) == (0, 0)


def test_storage_cost_of_publishing() -> None:
    """Five configs store pictures several times; with `--images once` each is stored little more than once."""
    pytest.importorskip("hf_xet")
    from benchmarks import publishing

    result = CliRunner().invoke(publishing.main, ["--scale", "0.0005"])
    assert result.exit_code == 0, result.output
    stored = [float(line.split("|")[5]) for line in result.stdout.splitlines()[4:]]
    assert stored[0] > 2
    assert 1 <= stored[1] < 1.5
    assert stored[2] < 0.5
