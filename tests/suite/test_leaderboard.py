"""The page of all predictions in a folder: numbers of `evaluate`, groups by significance, and nothing that executes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.colours import write_colours
from support.command import run
from support.constants import change_constant

from _newsclippings.evaluate import evaluate
from _newsclippings.suite import benchmark, write_leaderboard
from newsclippings import BadFileError, ConfigError, DataNotFoundError, UnsafePathError

ROWS = 160


class Cells(HTMLParser):
    """Collects the texts of the cells of each row, and the names of all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.ended = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.ended |= tag == "table"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and not self.ended:
            self.rows[-1][-1] += data.strip("\n")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    change_constant(monkeypatch, "DRAWS", 200, of="intervals")
    write_colours(tmp_path / "data", learnable=True, pairs={"train": 16, "val": 16, "test": ROWS // 2})
    return tmp_path / "data"


def write(place: str, wrong: int, seed: int = 0, **facts: Any) -> Path:
    """Write predictions of which this many are wrong; the labels follow the parity."""
    folder = Path("models") / place
    folder.mkdir(parents=True)
    labels = np.arange(ROWS) % 2
    labels[np.random.default_rng(seed).permutation(ROWS)[:wrong]] ^= 1
    lines = (json.dumps({"index": k, "score": 0.25 + label / 2}) + "\n" for k, label in enumerate(labels.tolist()))
    (folder / "predictions.jsonl").write_text("".join(lines))
    if facts:
        (folder / "facts.json").write_text(json.dumps(facts))
    return folder / "predictions.jsonl"


def test_the_page_has_what_evaluate_says(world: Path) -> None:
    """Models are sorted; each has the values of `evaluate`, its signature, flags and group."""
    best = write("best", 8, name="Best <b>", url="https://example.org/?a=1&b=2", pixels=True, web=False)
    write("close", 9, seed=1)
    write("coin", 80, seed=2, name="Coin")
    for seed in (0, 1):
        write(f"two/seed-{seed}", 40 + 2 * seed, seed=seed, name="Two seeds")
    done = run("leaderboard", "models", "--data-dir", world)
    assert (done.exit_code, done.stdout) == (0, "leaderboard.html (4 models)\n"), done.output
    text = Path("leaderboard.html").read_text()
    page = Cells(text)
    header, *rows = page.rows
    assert header[:3] == ["group", "model", "accuracy"]
    names = [row[1].partition("newsclippings|")[0] for row in rows]
    assert names == ["Best <b>", "close", "Two seeds", "Coin"]
    assert [row[0] for row in rows] == ["1", "1", "2", "3"]
    found = evaluate(best, data_dir=world)
    value = found.systems[0].whole.results()["accuracy"]
    assert value is not None
    low, high = f"{100 * value['low']:.1f}", f"{100 * value['high']:.1f}"
    assert rows[0][2] == f"{100 * value['value']:.1f}{low} to {high}"
    assert found.signature in rows[0][1]
    assert rows[0][-4:] == ["1", "yes", "", "no"]
    assert (rows[2][2][:4], rows[2][-4]) == ("74.4", "2")  # the mean of 75 and 73.75 %
    assert not page.tags & {"script", "b", "img", "iframe"}
    assert 'href="https://example.org/?a=1&amp;b=2"' in text
    write_leaderboard("models", "again.html", data_dir=world)
    assert Path("again.html").read_text() == text


def test_what_a_benchmark_writes_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of `newsclippings benchmark` can be shown: seeds are one model, thresholds are as chosen."""
    pytest.importorskip("sklearn")
    change_constant(monkeypatch, "DRAWS", 200, of="intervals")
    places = write_colours(tmp_path, learnable=True, pairs={"train": 160, "val": 80, "test": 80})
    lines: list[dict[str, Any]] = []
    for name in ("clip-cosine", "probe"):
        lines += benchmark(name, seeds=2, vectors=places, data_dir=tmp_path, out="out").lines
    assert write_leaderboard("out", "page.html", data_dir=tmp_path) == len(lines) == 4
    rows = {row[1].partition("newsclippings|")[0]: row for row in Cells(Path("page.html").read_text()).rows[1:]}
    for line in lines:
        row = rows[f"{line['baseline']}: {line['method']}"]
        assert row[2].startswith(f"{100 * line['value']:.1f}")
        assert line["signature"] in row[1]
        assert row[-4:] == [str(line["seeds"]), "no", "no", "no"]


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"name": 7}, "expected a text as name, found int"),
        ({"name": " "}, "expected a text as name, found an empty one"),
        ({"name": "x" * 70_000}, "facts.json: expected at most 65,536 bytes, found 70,0[0-9]+. Is it another file[?]$"),
        ({"url": "https://\ud800"}, "expected https:// as url"),
        ({"url": "javascript:alert(1)"}, "expected https:// as url, found javascript"),
        ({"threshold": "val:../other/predictions.jsonl"}, "val: and a file beside it"),
        ({"threshold": True}, "expected a number as threshold, found bool"),
        ({"pixels": "yes"}, "expected true or false as pixels"),
        ([], "expected a JSON object, found list"),
    ],
)
def test_facts_that_cannot_be_used(world: Path, facts: Any, says: str) -> None:
    """Facts come from anyone: each wrong one is named, and no page is written."""
    write("other", 8)
    file = write("mine", 8)
    file.with_name("facts.json").write_text(json.dumps(facts))
    with pytest.raises(BadFileError, match=says):
        write_leaderboard("models", "page.html", data_dir=world)
    assert not Path("page.html").exists()


def test_pages_of_others_are_kept(world: Path) -> None:
    """Another file in the place of the page is not replaced; an empty folder is an error."""
    write("mine", 8)
    Path("page.html").write_text("mine")
    with pytest.raises(ConfigError, match="was not written by `newsclippings leaderboard`"):
        write_leaderboard("models", "page.html", data_dir=world)
    Path("empty").mkdir()
    with pytest.raises(DataNotFoundError, match=r"has no folder with predictions\.jsonl"):
        write_leaderboard("empty", "page2.html", data_dir=world)


def test_a_threshold_beyond_all_numbers(world: Path) -> None:
    """A number that JSON can write and float64 cannot hold is an error of the file, and of no flag."""
    write("mine", 8).with_name("facts.json").write_text('{"threshold": 1e999}')
    with pytest.raises(BadFileError, match=r"facts.json: expected a finite number as threshold, found inf"):
        write_leaderboard("models", "page.html", data_dir=world)


def test_runs_of_one_name_have_the_same_facts(world: Path) -> None:
    """The page shows the facts of the first run: those of the others have to be the same."""
    write("seed-0", 8, name="Model", pixels=True)
    write("seed-1", 9, name="Model", pixels=False)
    with pytest.raises(BadFileError, match="expected the url and the flags of the other runs of Model"):
        write_leaderboard("models", "page.html", data_dir=world)


@pytest.mark.parametrize("name", ["predictions.jsonl", "facts.json", "validation.jsonl", "."])
def test_links_that_leave_the_folder_are_refused(world: Path, name: str) -> None:
    """A stranger's folder shows no file outside of it: predictions, facts, thresholds, or a linked folder."""
    file = write("mine", 8)
    Path("models/again").symlink_to("mine")  # inside
    assert write_leaderboard("models", "page.html", data_dir=world) == 1
    file.with_name("facts.json").write_text('{"threshold": "val:validation.jsonl"}')
    file.with_name("validation.jsonl").write_bytes(file.read_bytes())
    outside, link = Path("outside", name).absolute(), file.with_name("link" if name == "." else name)
    Path("outside").mkdir()
    if name != ".":
        link.rename(outside)
    link.symlink_to(outside)
    with pytest.raises(
        UnsafePathError, match=rf"{link.name} is a link that leads out of models\. Replace it by a copy"
    ):
        write_leaderboard("models", "page2.html", data_dir=world)
    assert not Path("page2.html").exists()
