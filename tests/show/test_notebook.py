"""`newsclippings.show`: pairs in a notebook, from rows of any origin."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from support.command import run
from support.world import Row, World

import newsclippings
from _newsclippings.text import one_line


class Texts(HTMLParser):
    """The texts, the alternative texts and the elements of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.alts: list[str] = []
        self.pictures: list[str] = []
        self.figures: list[str] = []
        self.elements: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.add(tag)
        values = dict(attrs)
        if tag == "img":
            self.alts.append(values["alt"])
            self.pictures.append(values["src"])
        if tag == "figure":
            self.figures.append(values["aria-label"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def dataset(world: World) -> Any:
    return newsclippings.load("merged_balanced", split="test", data_dir=str(world.root))


def html_of(shown: Any) -> Texts:
    return Texts(shown._repr_html_())


def expected(rows: list[Row]) -> list[str]:
    return [f"Pair {row['index'] // 2}" for row in rows if not row["falsified"]]


def test_a_dataset(world: World, dataset: Any) -> None:
    """The first pairs: caption, label, score, and the picture with its own caption; decodable JPEGs; no script."""
    rows = world.rows(split="test")
    shown = newsclippings.show(dataset, n=3)
    page = html_of(shown)
    text = " ".join(page.texts)
    assert len(shown) == 3
    assert re.findall(r"Pair \d+", text) == expected(rows[:6])
    assert page.alts == [one_line(row["image_caption"]) for row in rows[:6]]
    assert page.figures == ["pristine", "falsified"] * 3
    for row in rows[:6]:
        assert one_line(row["caption"]) in text
        assert f"score {row['similarity_score']:.3f}" in text
    assert page.elements <= {"section", "div", "p", "b", "figure", "figcaption", "img", "span", "br", "em"}
    for url in page.pictures:
        kind, _, code = url.partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(code))).format == "JPEG"
    assert len(newsclippings.show(dataset)) == 6


def test_every_origin_shows_the_same(world: World, dataset: Any, tmp_path: Path) -> None:
    """A stream, undecoded rows, another format, a built folder and plain rows give the same pairs."""
    assert run("build", tmp_path / "built", "--data-dir", world.root).exit_code == 0
    built = datasets.load_dataset("parquet", data_files=str(tmp_path / "built" / "merged_balanced" / "test-*.parquet"))
    encoded = dataset.cast_column("image", datasets.Image(decode=False))
    stream = newsclippings.load("merged_balanced", split="test", data_dir=str(world.root), streaming=True)
    wanted = html_of(newsclippings.show(dataset, n=4)).texts
    for rows in (encoded, stream, built["train"], encoded.with_format("numpy"), list(encoded), iter(list(dataset))):
        shown = newsclippings.show(rows, n=4)
        assert html_of(shown).texts == wanted
        assert len(html_of(shown).pictures) == 8


def test_a_row_some_rows_and_a_data_frame(dataset: Any) -> None:
    """What a notebook has at hand is shown as well: a row, some rows, and a table of pandas or Arrow."""
    encoded = dataset.cast_column("image", datasets.Image(decode=False))
    wanted = html_of(newsclippings.show(dataset, n=2)).texts
    for rows in (
        dataset[:4],
        encoded[:4],
        encoded.to_pandas().head(4),
        dataset.with_format("pandas")[:4],
        encoded[:4] | {"falsified": [0, 1, 0, 1]},
    ):
        assert html_of(newsclippings.show(rows)).texts == wanted
    assert html_of(newsclippings.show(encoded.with_format("arrow")[:4])).texts == wanted
    assert len(html_of(newsclippings.show(dataset[1])).pictures) == 1
    with pytest.raises(newsclippings.ConfigError, match="expected rows with index, caption, falsified, found"):
        newsclippings.show(dataset["image"])


def test_rows_without_their_twins(world: World, dataset: Any) -> None:
    """Twins that do not follow each other are shown alone."""
    falsified = dataset.filter(lambda row: row["falsified"] == 1)
    assert len(newsclippings.show(falsified, n=5)) == 5
    assert len(html_of(newsclippings.show(falsified, n=5)).pictures) == 5


def test_rows_without_pictures_and_facts() -> None:
    """Only index, caption and falsified are needed; texts are escaped."""
    hostile = '<script>alert(1)</script> \u202e "x" \'&'
    rows = [{"index": k, "caption": hostile, "falsified": k % 2} for k in range(4)]
    shown = newsclippings.show(rows)
    page = html_of(shown)
    assert "script" not in page.elements
    assert page.texts.count("no picture") == 4
    assert one_line(hostile) in page.texts


def test_outside_of_a_notebook(dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pairs say what to do, and `save` draws a PNG, under such a name; a file of somebody else stays."""
    shown = newsclippings.show(dataset, n=2)
    assert repr(shown) == "<2 pairs: a notebook shows them, and .save('pairs.png') draws them>"
    with Image.open(shown.save(tmp_path / "new" / "pairs.png")) as sheet:
        assert sheet.format == "PNG"
    with pytest.raises(newsclippings.ConfigError, match=re.escape("its name must end in .png")):
        shown.save(tmp_path / "pairs.pdf")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shown.save("~/home.png") == tmp_path / "home.png"
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(newsclippings.ConfigError, match="was not written by"):
        shown.save(tmp_path / "mine.png")


@pytest.mark.parametrize(
    ("value", "n", "says"),
    [
        ({"train": [], "test": []}, 8, "found splits: train, test. Pass one, such as ds"),
        ("built", 8, "found 'built'. Load it first"),
        (7, 8, "found 7. Load it first"),
        ([{"caption": "x"}], 8, "expected rows with index, caption, falsified, found the columns caption"),
        ([1], 8, "expected rows with index, caption, falsified, found 1"),
        ([{"index": 0}], 8, "found the columns index. Pass whole rows"),
        ({"index": [0, 1], "caption": ["x"]}, 8, "found the columns index, caption. Pass whole rows"),
        ([], 0, "n=0: expected a number of pairs, 1 or more"),
        ([], True, "n=True: expected"),
    ],
)
def test_what_cannot_be_shown(value: Any, n: int, says: str) -> None:
    """Anything but rows of one split is an error that says what to pass."""
    with pytest.raises(newsclippings.ConfigError, match=re.escape(says)):
        newsclippings.show(value, n)


def test_reports_in_a_notebook(world: World, tmp_path: Path) -> None:
    """`verify` and `evaluate` give tables with the numbers of their texts."""
    (tmp_path / "data").symlink_to(world.root)
    report = newsclippings.verify(tmp_path / "data", configs=["merged_balanced"], images="header")
    page = Texts(report._repr_html_())
    counts = report.counts["merged_balanced"]["test"]
    assert {"Sound.", "merged_balanced/test", f"{counts['rows']:,}"} <= {*page.texts}
    heads = re.findall(r"<th\b[^>]*>", report._repr_html_())
    assert heads
    assert all("scope=" in head for head in heads)  # a screen reader says it with each number
    (tmp_path / "none").mkdir()
    missing = newsclippings.verify(tmp_path / "none")
    page = Texts(missing._repr_html_())
    assert "Missing" in page.texts
    assert "br" in page.elements
    assert not [text for text in page.texts if "\\n" in text]  # a line of an error is a line there
    rows = [{"index": k, "score": (k % 5) / 5} for k in range(len(world.rows(split="test")))]
    found = newsclippings.evaluate(rows, rows, data_dir=str(world.root))
    page = Texts(found._repr_html_())
    assert "table" in page.elements
    assert f"{found.values['auc']:.4f}" in " ".join(page.texts)
    assert found.signature in " ".join(page.texts)
    assert any(text.startswith("predictions - predictions") for text in page.texts)
