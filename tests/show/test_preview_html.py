"""`newsclippings preview --html`: a page with exactly the planned pairs, which loads and runs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.command import run
from support.world import CONFIGS, OUTLETS, SOURCES, SPLITS, Row, World

from _newsclippings.show import page as preview_html
from _newsclippings.show.page import LARGEST, TEMPLATE, Rows, write_page
from _newsclippings.text import one_line

TWO = ("merged_balanced", "person_sbert_text_text")
EVERYTHING = [f"--config={config}" for config in TWO] + [f"--split={split}" for split in SPLITS]
LABELS = ["pristine", "falsified"]
HOSTILE = [
    "</script><script>window.stolen = 1</script>",
    "<!--<script> <img src=x onerror='window.stolen = 1'> ]]>",
    "\"quotes\" 'and' `ticks` \\ \\u003c &lt; &amp; {{pairs}} {{script}} ${1}\u2028\u2029",
    "</SCRIPT foo>\n<style>* { display: none }</style>",
]

Shown = tuple[str, list[str]]  # the heading of a pair, and its visible twins


def shown(value: Any) -> Any:
    """A text as the page shows it: on one line, with every blank as a space."""
    return one_line(value) if isinstance(value, str) else value


def write(world: World, page: Path, *args: object) -> Path:
    result = run("preview", "--data-dir", world.root, "--html", page, *args)
    assert result.exit_code == 0, result.output
    return page


def data_of(page: Path) -> dict[str, Any]:
    """The data of the page's script: the text of the element, as an HTML parser delimits it."""
    text = page.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(re.split(r"</script", text.split('id="data">')[1], flags=re.IGNORECASE)[0])
    return found


def plan(world: World, configs: tuple[str, ...] = TWO, pairs: int = 100) -> list[Row]:
    """The expected pairs of a page of some configs, without the pictures."""
    return [
        {
            "config": config,
            "split": split,
            "number": k // 2,
            "measure": SOURCES[rows[k]["source_dataset"]],
            "rows": rows[k : k + 2],
        }
        for config in configs
        for split in SPLITS
        for rows in [world.rows(config, split)]
        for k in range(0, min(len(rows), 2 * pairs), 2)
    ]


def picture(size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> Row:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return {"bytes": file.getvalue(), "path": None}


def row(index: int, **fields: Any) -> Row:
    whose = {"source": "bbc", "topic": "world", "image_source": "guardian", "image_topic": "cities"}
    texts = {"caption": f"caption {index // 2}", "image_caption": f"of picture {index}", "source_dataset": 1}
    numbers = {"index": index, "id": index // 2, "image_id": index, "falsified": index % 2, "similarity_score": 0.5}
    return {**whose, **texts, **numbers, "image": picture(), **fields}


# Content of the page


def test_the_pairs_are_those_of_the_plan(world: World, tmp_path: Path) -> None:
    """The page has every config and split in order, both twins of every pair, and unchanged texts."""
    result = run("preview", "--data-dir", world.root, "--html", tmp_path / "new" / "pairs.html", *reversed(EVERYTHING))
    expected = plan(world)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/new/pairs.html ({len(expected)} pairs)\n")
    data = data_of(tmp_path / "new" / "pairs.html")
    assert data["labels"] == LABELS
    names = {
        "image_caption",
        "id",
        "image_id",
        "caption",
        "falsified",
        "source",
        "topic",
        "image_source",
        "image_topic",
    }
    for pair, wanted in zip(data["pairs"], expected, strict=True):
        rows = [
            {
                **{name: shown(row[name]) for name in names},
                **{"score": row["similarity_score"], "picture": one["picture"], "date": None, "image_date": None},
            }
            for row, one in zip(wanted["rows"], pair["rows"], strict=True)
        ]
        assert pair == {**wanted, "rows": rows}


def test_the_pictures_are_those_of_the_plan(world: World, tmp_path: Path) -> None:
    """Each picture is stored once, as a similar JPEG, however many rows show it."""
    data = data_of(write(world, tmp_path / "pairs.html", *EVERYTHING))
    stored = {row["image_id"]: row["image"]["bytes"] for pair in plan(world) for row in pair["rows"]}
    places = {row["image_id"]: row["picture"] for pair in data["pairs"] for row in pair["rows"]}
    assert sorted(places.values()) == list(range(len(stored)))
    for image_id, k in places.items():
        kind, _, code = data["pictures"][k].partition(",")
        assert kind == "data:image/jpeg;base64"
        small = Image.open(io.BytesIO(base64.b64decode(code)))
        whole = Image.open(io.BytesIO(stored[image_id]))
        assert (small.format, small.size) == ("JPEG", whole.size)
        both = np.stack([np.asarray(one.convert("L"), float).ravel() for one in (small, whole.convert("RGB"))])
        assert np.corrcoef(both)[0, 1] > 0.7


def test_pairs_are_counted_by_split(world: World, tmp_path: Path) -> None:
    """`--pairs` counts per split; the defaults are 100 pairs of test."""
    page = write(world, tmp_path / "a.html", "--pairs", 2, *EVERYTHING)
    assert [(p["config"], p["split"], p["number"]) for p in data_of(page)["pairs"]] == [
        (p["config"], p["split"], p["number"]) for p in plan(world, pairs=2)
    ]
    pairs = data_of(write(world, tmp_path / "b.html"))["pairs"]
    assert [(p["config"], p["split"]) for p in pairs] == [("merged_balanced", "test")] * 6


def test_the_same_rows_give_the_same_page(world: World, tmp_path: Path) -> None:
    """The same rows give the same bytes, without a path of this machine."""
    first, again = (write(world, tmp_path / name, *EVERYTHING).read_bytes() for name in ("a.html", "b.html"))
    assert first == again
    assert str(tmp_path).encode() not in first
    assert str(world.root).encode() not in first


def test_missing_and_damaged_pictures(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Missing (or empty) and damaged pictures are marked as such, and the others are shown."""
    world = new_world(tar=False)
    rows = world.rows(split="test")
    for k, data in ((3, b"GIF89a but not really"), (5, b"")):
        (world.origin / rows[k]["image_path"]).write_bytes(data)
    (world.origin / rows[0]["image_path"]).unlink()
    special = {rows[k]["image_id"]: what for k, what in ((0, "no picture"), (3, "not decodable"), (5, "no picture"))}
    assert len(special) == 3
    found = [one for pair in data_of(write(world, tmp_path / "pairs.html"))["pairs"] for one in pair["rows"]]
    for one in found:
        assert isinstance(one["picture"], int) == (one["image_id"] not in special)
        assert isinstance(one["picture"], int) or one["picture"] == special[one["image_id"]]


def test_rows_that_lack_records(tmp_path: Path) -> None:
    """Nulls and an unknown sub-split are kept as null, and a row without its twin is shown."""
    none = dict.fromkeys(("caption", "image_caption", "source", "topic", "image_source", "image_topic", "image"))
    rows = [row(0, **none, source_dataset=None), row(1, image=None), row(6)]
    assert write_page([Rows("x", "test", rows)], tmp_path / "x.html") == 2
    first, last = data_of(tmp_path / "x.html")["pairs"]
    assert (first["number"], first["measure"], len(first["rows"]), first["rows"][0]["caption"]) == (0, None, 2, None)
    assert (last["number"], len(last["rows"])) == (3, 1)


def test_texts_cannot_break_out_of_the_data(tmp_path: Path) -> None:
    """For any caption, the page has only its own two scripts, and the caption is read back on one line."""
    rows = [row(2 * k, caption=text, image_caption=text, topic=text) for k, text in enumerate(HOSTILE)]
    write_page([Rows("x", "test", rows)], tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert re.findall(r"<(?:!--|/?script)[^>]*>?", text, re.IGNORECASE) == [
        '<script type="application/json" id="data">', "</script>", "<script>", "</script>",
    ]  # fmt: skip
    found = [pair["rows"][0] for pair in data_of(tmp_path / "x.html")["pairs"]]
    texts = [(shown(t), shown(t), shown(t)) for t in HOSTILE]
    assert [(one["caption"], one["image_caption"], one["topic"]) for one in found] == texts


def test_the_page_may_load_nothing(world: World, tmp_path: Path) -> None:
    """The page has no external reference, and its policy allows only its own script and no connection."""
    text = write(world, tmp_path / "pairs.html").read_text(encoding="utf-8")
    before, _, rest = text.partition('id="data">')
    own = before + rest.partition("</script>")[2]
    assert not re.findall(r"https?:|url\(|@import|\bsrc=|\bhref=(?!\"data:,\")|\son\w+=|\{\{", own)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', own)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (script,) = re.findall(r"<script>(.*?)</script>", own, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules.pop("script-src") == f"'sha256-{digest}'"
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip


@pytest.mark.parametrize("size", [(1600, 1200), (900, 1600), (640, 480), (4000, 90), (321, 1)])
def test_thumbnails_are_small(size: tuple[int, int]) -> None:
    """Even a JPEG of noise stays below the size limit; the frame is filled as far as the shape allows."""
    data = preview_html._make_thumbnail(picture(size))
    assert len(data) <= LARGEST
    with Image.open(io.BytesIO(data)) as small:
        assert small.width <= 320
        assert small.height <= 240


def test_a_smooth_picture_keeps_its_size() -> None:
    """A large picture becomes 320 wide, and a smaller one is not enlarged."""
    for size, expected in (((1600, 1066), (320, 213)), ((80, 60), (80, 60))):
        file = io.BytesIO()
        Image.linear_gradient("L").resize(size).save(file, "PNG")
        with Image.open(io.BytesIO(preview_html._make_thumbnail({"bytes": file.getvalue(), "path": None}))) as small:
            assert small.size == expected


def test_five_hundred_pairs_are_below_20_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred pairs with the largest pictures and long texts are below 20 MB."""
    monkeypatch.setattr(preview_html, "_make_thumbnail", lambda _: b"\xff" * LARGEST)
    texts = {"caption": "ö" * 150, "image_caption": "ö" * 150, "image": {"bytes": b"", "path": None}}
    rows = [row(k, image_id=k, **texts) for k in range(1000)]
    assert write_page([Rows("merged_balanced", "train", rows)], tmp_path / "x.html", 500) == 500
    assert (tmp_path / "x.html").stat().st_size < 20_000_000


def test_colours_can_be_told_apart() -> None:
    """Contrast is at least 4.5 for text and 3 for borders of fields (WCAG AA), in light and dark mode."""

    def luminance(color: str) -> float:
        channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    palettes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", TEMPLATE.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(palettes) == 2
    for colors in palettes:
        for ground in ("paper", "card", "well"):
            assert all(contrast(colors[name], colors[ground]) >= 4.5 for name in ("ink", "faint", "accent"))
        assert all(contrast(colors["edge"], colors[ground]) >= 3 for ground in ("paper", "card"))
        assert all(contrast(colors[label], colors["card"]) >= 4.5 for label in LABELS)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--split", "train", "--split", "test"], "Use --html for a page"),
        (["--config", CONFIGS[0], "--config", CONFIGS[1]], "Use --html for a page"),
        (["--html", "x.html", "-o", "x.png"], "use only one of them"),
        (["--html", "x.html", "--pairs", "0"], "not in the range"),
        (["-o", "x.png", "--full-pictures"], "use it with --html"),
        (["--built", "folder", "--data-dir", "x"], "--built is a built folder and --data-dir is about inputs"),
    ],
)
def test_wrong_options_are_refused(args: list[str], says: str) -> None:
    """Options that a PNG cannot show are a usage error that names the flags, and nothing is written."""
    result = run("preview", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert list(Path.cwd().iterdir()) == []


def answers_of(folder: Path, world: World) -> tuple[list[Path], dict[int, list[tuple[float, bool]]]]:
    """Predictions of two models in files; and index -> the score of each, and whether it is right."""
    files, answers = [folder / "a.jsonl", folder / "b.jsonl"], {}
    rows = world.rows(split="test")
    for k in range(len(rows)):
        scores = ((k * 7 + 3) % len(rows) / len(rows), (k * 5 + 1) % len(rows) / len(rows))
        answers[k] = [(score, (score > 0.5) == bool(rows[k]["falsified"])) for score in scores]
    for number, file in enumerate(files):
        lines = [json.dumps({"index": k, "score": both[number][0]}) for k, both in answers.items()]
        file.write_text("\n".join(lines))
    return files, answers


def test_answers_of_models(world: World, tmp_path: Path) -> None:
    """Each row has the score and the outcome of each model; a page without predictions has no such field."""
    files, answers = answers_of(tmp_path, world)
    data = data_of(write(world, tmp_path / "x.html", "--predictions", *files))
    assert data["models"] == [str(file) for file in files]
    found = {2 * pair["number"] + row["falsified"]: row["answers"] for pair in data["pairs"] for row in pair["rows"]}
    assert found == {k: [[score, right] for score, right in both] for k, both in answers.items()}
    data = data_of(write(world, tmp_path / "y.html"))
    assert data["models"] == []
    assert not any("answers" in row for pair in data["pairs"] for row in pair["rows"])


def test_pairs_of_each_outcome(world: World, tmp_path: Path) -> None:
    """With fewer pairs than there are, each outcome that occurs is on the page."""
    files, answers = answers_of(tmp_path, world)
    data = data_of(write(world, tmp_path / "x.html", "--pairs", 4, "--predictions", *files))
    outcomes = {tuple(right for _, right in row["answers"]) for pair in data["pairs"] for row in pair["rows"]}
    assert outcomes == {tuple(right for _, right in both) for both in answers.values()}
    assert len(data["pairs"]) <= 4


@pytest.mark.parametrize(
    "args", [["--predictions", "a"], ["--html", "x.html", "--predictions", "a", "b", "c"],
             ["--html", "x.html", "--predictions", "a", "--split", "train", "--split", "test"]]
)  # fmt: skip
def test_predictions_need_a_page_of_one_split(args: list[str]) -> None:
    """One or two models, one split, and --html; a stray argument is refused."""
    result = run("preview", *args)
    assert result.exit_code == 2
    assert "--predictions are one or two files of one --split of one --config" in result.stderr
    assert "unexpected extra argument" in run("preview", "a.jsonl").stderr


def dated(index: int, day: str, **fields: Any) -> Row:
    """A row whose article has a date."""
    return row(index, metadata={"timestamp": datetime.fromisoformat(f"{day}T12:00:00+00:00")}, **fields)


def test_dates_of_articles(tmp_path: Path) -> None:
    """Rows have the day of the caption's and of the picture's article, or null."""
    rows = [dated(0, "2014-03-01", image_metadata={"timestamp": None}), row(1, metadata=None)]
    write_page([Rows("x", "test", rows)], tmp_path / "x.html")
    (pair,) = data_of(tmp_path / "x.html")["pairs"]
    assert [(one["date"], one["image_date"]) for one in pair["rows"]] == [("2014-03-01", None), (None, None)]


def test_metadata_gives_dates(world: World, tmp_path: Path) -> None:
    """With `--metadata` the page has the dates of the authors' metadata."""
    pairs = data_of(write(world, tmp_path / "x.html", "--metadata"))["pairs"]
    assert any(one["date"] for pair in pairs for one in pair["rows"])


def test_a_random_sample(world: World, tmp_path: Path) -> None:
    """A seed chooses pairs, the same ones each time, in their order; other seeds choose others."""
    samples: list[list[int]] = []
    for seed in (1, 1, 2, 3, 4):
        pairs = data_of(write(world, tmp_path / f"{len(samples)}.html", "--split=train", "--pairs=3", "--seed", seed))
        samples.append([pair["number"] for pair in pairs["pairs"]])
    assert samples[0] == samples[1] == sorted(set(samples[0]))
    assert len(samples[0]) == 3
    assert len({tuple(sample) for sample in samples}) > 1


def test_full_pictures(tmp_path: Path) -> None:
    """Full pictures are JPEGs of at most 1,600 pixels, each once; without the option there are none."""
    rows = [row(k, image_id=k // 2, image=picture((2000, 1000) if k < 2 else (30, 20), "PNG")) for k in range(4)]
    write_page([Rows("x", "test", rows)], tmp_path / "x.html", full=True)
    data = data_of(tmp_path / "x.html")
    sizes = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in data["full"]]
    assert sizes == [(1600, 800), (30, 20)]
    assert len(data["pictures"]) == 2
    write_page([Rows("x", "test", rows)], tmp_path / "y.html")
    assert data_of(tmp_path / "y.html")["full"] == []


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: playwright's own, or the machine's."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = (
            own if Path(own).exists() else next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
        )
        if found is None:
            pytest.skip("playwright is installed, but no Chromium")
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page from its file; afterwards assert that it made no other request and logged nothing."""
    contexts, said, asked, opened = [], [], [], []

    def open_page(file: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        context.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        opened.append(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} <= {*opened}


@pytest.fixture(scope="module")
def many(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two configs and all splits. Shared: never change it."""
    return write(world, tmp_path_factory.mktemp("page") / "pairs.html", *EVERYTHING)


def seen(page: Any) -> list[Shown]:
    """The visible pairs, in order."""
    script = """() => [...document.querySelectorAll("article")].filter((one) => one.checkVisibility()).map((one) => [
        one.querySelector("p").textContent,
        [...one.querySelectorAll("figure")].filter((twin) => twin.checkVisibility()).map((twin) => twin.className)])"""
    return [(head, twins) for head, twins in page.evaluate(script)]


def expected(
    world: World, wanted: Callable[[Row], Any] = bool, of_pair: Callable[[Row], Any] = bool, label: str = ""
) -> list[Shown]:
    """The planned pairs for which the condition holds for a twin with the label."""
    labels = [label] if label else LABELS
    return [
        (f"Pair {pair['number']} · {pair['split']} · {pair['config']}", labels)
        for pair in plan(world)
        if of_pair(pair) and any(wanted(one) for one in pair["rows"] if LABELS[one["falsified"]] in labels)
    ]


def on_page(text: str) -> str:
    """A caption as the page has it: on one line."""
    return " ".join(text.split())


def plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()


def test_every_pair_is_drawn(world: World, many: Path, show: Callable[..., Any]) -> None:
    """Each pair shows caption, the picture's own caption, score, outlets and topics; pictures have an alt text."""
    page = show(many)
    assert seen(page) == expected(world)
    assert page.text_content("#count") == f"{len(plan(world))} pairs"
    texts = """(articles) => articles.map((article) => ({
        caption: article.querySelector("h2").textContent,
        facts: [...article.querySelectorAll("dd")].map((one) => one.textContent),
        twins: [...article.querySelectorAll("figure")].map((one) => [one.textContent, one.querySelector("img").alt]),
    }))"""
    for article, pair in zip(page.locator("article").evaluate_all(texts), plan(world), strict=True):
        assert article["caption"] == on_page(pair["rows"][0]["caption"])
        facts = [pair["rows"][0]["source"], pair["rows"][0]["topic"], pair["measure"], str(pair["rows"][0]["id"])]
        assert article["facts"] == facts
        for (text, alt), one in zip(article["twins"], pair["rows"], strict=True):
            own = one["image_caption"] == one["caption"]
            assert f"{LABELS[one['falsified']]}score {one['similarity_score']:.3f}" in text
            assert own or on_page(one["image_caption"]) in text
            assert ("is the picture’s own" in text) == own
            assert text.endswith(f"{one['image_source']} · {one['image_topic']} · picture {one['image_id']}")
            assert alt == on_page(one["image_caption"])
    widths = "() => Promise.all([...document.images].map(async (one) => { one.loading = 'eager'; await one.decode(); "
    assert all(page.evaluate(widths + "return one.naturalWidth; }))"))


FILTERS = {"config": TWO, "split": tuple(SPLITS), "label": tuple(LABELS), "measure": SOURCES, "outlet": OUTLETS}


def filtered(world: World, field: str, value: str) -> list[Shown]:
    """The planned pairs that pass a filter."""
    if field == "label":
        return expected(world, label=value)
    if field == "outlet":
        return expected(world, lambda one: value in (one["source"], one["image_source"]))
    return expected(world, of_pair=lambda pair: pair[field] == value)


@pytest.mark.parametrize("field", FILTERS)
def test_a_filter(world: World, many: Path, show: Callable[..., Any], field: str) -> None:
    """Each value of a filter shows exactly the planned pairs; "Show all" shows all again."""
    page = show(many)
    for value in FILTERS[field]:
        page.select_option(f"#{field}", value)
        wanted = filtered(world, field, value)
        assert seen(page) == wanted, value
        assert len(wanted) > 0
        assert page.text_content("#count").startswith(f"{len(wanted)} ")
        page.click("#reset")
        page.wait_for_selector("#reset[disabled]")
        assert seen(page) == expected(world)


def found(world: World, text: str) -> list[Shown]:
    """The pairs of the plan that a search finds."""
    names = ("caption", "image_caption", "topic", "image_topic", "id", "image_id")
    return expected(
        world,
        lambda one: all(word in plain(" · ".join(str(one[name]) for name in names)) for word in plain(text).split()),
    )


def test_the_search(world: World, many: Path, show: Callable[..., Any]) -> None:
    """A search finds pairs with all words, in any order, in captions, topics or ids; it ignores accents and case."""
    page = show(many)
    for text in ("stokes", "NAIVE cafe", "naïve", "}}, {{", 'a "sign', "exhibit 1", "東京", "cities", "no such"):
        page.fill("#search", text)
        wanted = found(world, text)
        assert seen(page) == wanted, text
        assert page.is_visible("#nothing") == (not wanted)


def test_filters_together(world: World, many: Path, show: Callable[..., Any]) -> None:
    """Outlet and search must hold for the same twin, among those with the selected label."""
    page = show(many)
    page.select_option("#split", "train")
    page.select_option("#label", "falsified")
    page.select_option("#outlet", "bbc")
    page.fill("#search", "number")
    wanted = expected(
        world,
        lambda one: (
            "bbc" in (one["source"], one["image_source"]) and "number" in f"{one['caption']} {one['image_caption']}"
        ),
        lambda pair: pair["split"] == "train",
        "falsified",
    )
    assert 0 < len(wanted) < len(expected(world, of_pair=lambda pair: pair["split"] == "train"))
    assert seen(page) == wanted


def test_the_keyboard(many: Path, show: Callable[..., Any]) -> None:
    """j, k and arrows move between visible pairs; / focuses the search, where letters are typed; Esc leaves it."""
    page = show(many)

    def focused() -> Any:
        return page.evaluate("document.activeElement.querySelector('p')?.textContent")

    heads = [head for head, _ in seen(page)]
    for key, k in (
        ("j", 0),
        ("j", 1),
        ("ArrowDown", 2),
        ("ArrowRight", 3),
        ("k", 2),
        ("ArrowUp", 1),
        ("ArrowLeft", 0),
        ("k", 0),
    ):
        page.keyboard.press(key)
        assert focused() == heads[k], key
    for _ in range(6):
        page.keyboard.press("j")
    top, bar = page.evaluate(
        "[document.activeElement, document.querySelector('.bar')].map((one) => one.getBoundingClientRect())"
    )
    assert 0 < top["top"] - bar["bottom"] < 30
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("/")
    page.keyboard.type("jkz")
    assert page.input_value("#search") == "jkz"
    page.fill("#search", "sign")
    page.keyboard.press("Escape")
    heads = [head for head, _ in seen(page)]
    assert focused() == heads[0]
    page.keyboard.press("ArrowDown")
    assert focused() == heads[1]
    page.keyboard.press("Control+j")
    assert focused() == heads[1]
    for key in ("j", "k", "/", "Esc", "↓", "→", "↑", "←"):
        assert key in page.locator("kbd").all_text_contents()


def test_tab_reaches_every_field(many: Path, show: Callable[..., Any]) -> None:
    """Tab moves through search, the filters and the first pair; each field has a label."""
    page = show(many)
    stops = []
    for _ in range(11):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert stops == [
        *("search", "config", "split", "label", "measure", "outlet", "topic", "least", "most", "order", "ARTICLE"),
    ]
    assert page.evaluate("[...document.querySelectorAll('input, select')].every((one) => one.labels.length === 1)")
    assert page.evaluate("[...document.images].every((one) => one.alt)")


def test_filters_and_order_of_answers(world: World, tmp_path: Path, show: Callable[..., Any]) -> None:
    """Pairs with a twin of an outcome, in the order of the score of the twins that are asked for."""
    files, answers = answers_of(tmp_path, world)
    page = show(write(world, tmp_path / "x.html", "--predictions", *files))
    number = len(answers) // 2
    for value, wanted in (("11", [True, True]), ("00", [False, False]), ("10", [True, False]), ("01", [False, True])):
        page.select_option("#answers", value)
        rows = [k for k, both in answers.items() if [right for _, right in both] == wanted]
        assert [head.split(" ")[1] for head, _ in seen(page)] == [
            str(pair) for pair in dict.fromkeys(k // 2 for k in rows)
        ]
        page.select_option("#order", "1 -1")
        best = {pair: max(answers[k][1][0] for k in rows if k // 2 == pair) for pair in {k // 2 for k in rows}}
        in_order = [str(pair) for pair, _ in sorted(best.items(), key=lambda item: -item[1])]
        assert [head.split(" ")[1] for head, _ in seen(page)] == in_order
        page.select_option("#order", "")
    page.select_option("#answers", "")
    page.select_option("#label", "falsified")
    page.select_option("#order", "0 1")
    lowest = sorted(range(number), key=lambda pair: answers[2 * pair + 1][0][0])
    assert [head.split(" ")[1] for head, _ in seen(page)] == [str(pair) for pair in lowest]
    page.click("#reset")
    page.wait_for_selector("#reset[disabled]")
    assert [head.split(" ")[1] for head, _ in seen(page)] == [str(pair) for pair in range(number)]
    assert f"{files[0]}: {answers[0][0][0]:.3f}, {'right' if answers[0][0][1] else 'wrong'}" in page.text_content(
        "figure"
    )


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four pairs with dates, topics, scores and full pictures. Shared: never change it."""
    file = tmp_path_factory.mktemp("some") / "some.html"
    days = ("2014-03-01", "2012-05-06", "2016-01-01", None)
    rows = []
    for k in range(8):
        fields = {"similarity_score": 1 - 0.125 * (k % 2) * (k + 1), "topic": f"topic {k // 4}"}
        day = days[k // 2]
        rows.append(row(k, **fields) if day is None else dated(k, day, **fields))
    write_page([Rows("x", "test", rows)], file, full=True)
    return file


def numbers(page: Any) -> list[int]:
    """Numbers of the visible pairs, in order."""
    return [int(head.split(" ")[1]) for head, _ in seen(page)]


def test_topic_score_and_date(some: Path, show: Callable[..., Any]) -> None:
    """Pairs by topic, by the score of the falsified twin (0.75, 0.5, 0.25, 0), and by date; the last has none."""
    page = show(some)
    for fields, wanted in (
        ({"topic": "topic 1"}, [2, 3]),
        ({"topic": "cities"}, [0, 1, 2, 3]),
        ({"least": "0.5"}, [0, 1]),
        ({"most": "0.25"}, [2, 3]),
        ({"least": "0.25", "most": "0.5"}, [1, 2]),
        ({"since": "2014-03-01"}, [0, 2]),
        ({"until": "2014-03-01"}, [0, 1]),
        ({"since": "2013-01-01", "until": "2015-01-01"}, [0]),
        ({"since": "2013-01-01", "most": "0.25"}, [2]),
    ):
        for name, value in fields.items():
            page.select_option(f"#{name}", value) if name == "topic" else page.fill(f"#{name}", value)
        assert numbers(page) == wanted, fields
        page.click("#reset")
        page.wait_for_selector("#reset[disabled]")


def test_orders(some: Path, show: Callable[..., Any]) -> None:
    """By score and by date, in both directions; pairs without a date come last."""
    page = show(some)
    orders = {"score -1": [0, 1, 2, 3], "score 1": [3, 2, 1, 0], "date -1": [2, 0, 1, 3], "date 1": [1, 0, 2, 3]}
    for order, wanted in orders.items():
        page.select_option("#order", order)
        assert numbers(page) == wanted, order


def test_the_address_has_the_filters(some: Path, show: Callable[..., Any]) -> None:
    """Each filter is in the address; a page opened at that address shows the same; so does a changed address."""
    page = show(some)
    page.fill("#search", "caption ü&=1")
    page.fill("#search", "caption")
    page.select_option("#order", "date 1")
    page.fill("#least", "0.25")
    assert numbers(page) == [1, 0, 2]
    address = page.url
    assert address.startswith(f"{some.as_uri()}#")
    again = page.context.new_page()
    again.goto(address)
    assert numbers(again) == [1, 0, 2]
    assert (again.input_value("#search"), again.input_value("#least")) == ("caption", "0.25")
    again.evaluate("location.hash = 'label=falsified&topic=none&least=0.5&nonsense=1'")
    again.wait_for_function("document.getElementById('label').value === 'falsified'")
    assert seen(again) == [("Pair 0 · test · x", ["falsified"]), ("Pair 1 · test · x", ["falsified"])]
    page.click("#reset")
    page.wait_for_selector("#reset[disabled]")
    assert page.url.rstrip("#") == some.as_uri()


def test_full_pictures_open_and_close(some: Path, show: Callable[..., Any]) -> None:
    """A click, a tap or Enter opens the full picture with its caption; Esc or the button goes back to where it was."""
    page = show(some)
    for close in ("#close", None):
        button = page.locator("button.picture").nth(1)
        button.focus()
        page.keyboard.press("Enter")
        assert page.is_visible("#full")
        assert "of picture 1" in page.text_content("#about")
        assert page.get_attribute("#full img", "alt") == "of picture 1"
        page.keyboard.press("j")
        assert page.is_visible("#full")
        page.click(close) if close else page.keyboard.press("Escape")
        assert not page.is_visible("#full")
        assert button.evaluate("(one) => one === document.activeElement")
    page.locator("button.picture").first.click()
    assert page.is_visible("#full")


def test_what_a_screen_reader_gets(some: Path, show: Callable[..., Any]) -> None:
    """Landmarks, headings, names of fields and pictures, and a live count."""
    page = show(some)
    tree = page.locator("body").aria_snapshot()
    for line in (
        '- heading "Pairs of NewsCLIPpings" [level=1]', '- search "Filter the pairs":', '- main:', '- status: 4 pairs',
        '- figure "pristine":',
        '- article "caption 0":', '- heading "caption 0" [level=2]', 'searchbox "Search captions, topics and ids"',
        'combobox "Topic"', 'spinbutton "Score from"', 'textbox "Date from"', 'button "Full picture: of picture 1"',
    ):  # fmt: skip
        assert line in tree, tree


def test_filters_on_a_phone(some: Path, show: Callable[..., Any]) -> None:
    """On a phone the filters are behind a button that says if they are open."""
    page = show(some, viewport={"width": 360, "height": 800})
    assert not page.is_visible("#topic")
    assert page.get_attribute("#filters", "aria-expanded") == "false"
    page.click("#filters")
    assert page.get_attribute("#filters", "aria-expanded") == "true"
    page.select_option("#topic", "topic 1")
    assert numbers(page) == [2, 3]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("article:not([hidden]) button.picture").first.click()
    assert page.locator("#close").bounding_box()["height"] >= 44


def test_captions_are_text(tmp_path: Path, show: Callable[..., Any]) -> None:
    """Markup in a caption is shown as text and has no effect."""
    rows = [row(2 * k, caption=text, image_caption=text, topic=text) for k, text in enumerate(HOSTILE)]
    write_page([Rows("x", "test", rows)], tmp_path / "x.html")
    page = show(tmp_path / "x.html")
    assert page.locator("h2").all_text_contents() == [shown(text) for text in HOSTILE]
    assert page.evaluate("window.stolen") is None
    assert page.locator("script").count() == 2
    assert len(seen(page)) == len(HOSTILE)


def test_missing_pictures_and_records_are_labelled(tmp_path: Path, show: Callable[..., Any]) -> None:
    """Missing and damaged pictures and missing records are labelled; a filter with one value is not offered."""
    none = dict.fromkeys(("caption", "image_caption", "source", "topic", "image_source", "image_topic", "image"))
    rows = [
        row(0, **none, source_dataset=None),
        row(1, image={"bytes": b"?", "path": None}),
        row(4, image_caption=None),
    ]
    write_page([Rows("x", "test", rows)], tmp_path / "x.html")
    page = show(tmp_path / "x.html")
    assert page.locator(".picture").all_text_contents() == ["no picture", "not decodable", ""]
    assert page.locator("h2").all_text_contents() == ["(no caption)", "caption 2"]
    assert "caption 0" in page.locator("figure").nth(1).text_content()
    assert page.locator("img").get_attribute("alt") == "Picture 4, caption unknown"
    names = ("config", "split", "measure", "outlet", "label", "topic", "least", "since", "answers", "order", "zoom")
    assert [name for name in names if page.is_visible(f"#{name}")] == ["outlet", "label", "topic"]


@pytest.mark.parametrize(("width", "columns"), [(360, 1), (800, 2), (1280, 2)])
def test_narrow_and_wide(many: Path, show: Callable[..., Any], width: int, columns: int) -> None:
    """Twins are stacked on a phone and side by side elsewhere; nothing is wider than the screen."""
    page = show(many, viewport={"width": width, "height": 800})
    twins = page.evaluate(
        "[...document.querySelectorAll('article:first-of-type figure')].map((one) => one.getBoundingClientRect())"
    )
    assert len({round(one["left"]) for one in twins}) == columns
    assert len({round(one["top"]) for one in twins}) == 3 - columns
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if columns == 1:
        fields = "[...document.querySelectorAll('input, select, button')].filter((one) => one.checkVisibility())"
        sizes = page.evaluate(f"{fields}.map((one) => one.offsetHeight)")
        assert min(sizes) >= 44  # large enough for fingers


def test_dark_mode(many: Path, show: Callable[..., Any]) -> None:
    """Dark mode has light text on dark, light mode dark text on light."""
    script = "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])"
    day, night = (show(many, color_scheme=scheme).evaluate(script) for scheme in ("light", "dark"))
    bright = [[sum(map(int, re.findall(r"\d+", color))) for color in mode] for mode in (day, night)]
    assert bright[0][0] > 600 > 200 > bright[0][1]
    assert bright[1][1] > 600 > 200 > bright[1][0]
