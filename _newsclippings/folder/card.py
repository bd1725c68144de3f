"""The card of a folder of Parquet files, and its dataset_infos.json: out of one template and the manifests."""

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from _newsclippings.facts import (
    CITATION,
    COLUMNS,
    DEFAULT_CONFIG,
    DESCRIPTION,
    EMBEDDINGS,
    HOMEPAGE,
    LICENSE,
    SPLITS,
    TEXTS,
    UNIQUE,
    VISUAL_NEWS_URL,
)
from _newsclippings.folder.charts import current_charts
from _newsclippings.folder.checksums import SUMS, sums_text
from _newsclippings.folder.manifest import Manifests, as_expected, manifests, shows_pictures, version
from _newsclippings.storage import holds, outputs, read_file, write_text
from _newsclippings.text import json_text

LARGEST_CARD = 4 << 20  # bytes of a card
TEMPLATE = Path(__file__).with_name("card.md")
README = "README.md"
PICTURE = "pairs.png"
MAKERS = {"README.md": outputs.CARD, "dataset_infos.json": outputs.CARD_INFOS, SUMS: outputs.SUMS}
TAGS = ("misinformation", "out-of-context", "fact-checking", "image-text", "news")
SIZES = (1_000, 10_000, 100_000, 1_000_000)  # of the Hub's size categories
NAMES_OF_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
PAPER = "https://arxiv.org/abs/2104.05893"
OF_FIRST = ", which needs pyarrow 26 or later to be read"  # vectors with nulls, as version 1.0.0 wrote them
ONCE_EACH = f" Not so the config `{UNIQUE}`: it has each `image_id` once a split, in ascending order."
GATE = (
    "The captions, articles and pictures belong to their publishers, and VisualNews is given out by its authors on "
    "request, for research. Say who you are and what you will do with the data; you may not pass them on."
)


def write_card(folder: Path, name: str | None = None, *, built_now: bool = False) -> None:
    """Write README.md, dataset_infos.json and SHA256SUMS of a folder.

    Args:
        folder: what `newsclippings build` wrote.
        name: by which it is loaded. Default: as before, or the folder's own.
        built_now: whether a build has just written its files, so that nothing of what the card said of them is kept.

    Raises:
        BadFileError: the folder has no config with a manifest, or one with something else in it.
        ConfigError: one of the files is there and was not written by this.
    """
    texts = card_files(folder, name, built_now=built_now)
    check_card(folder)
    for file, text in texts.items():
        write_text(file, text, MAKERS[file.name])


def check_card(folder: Path) -> None:
    """Refuse to replace files that only have the names of a card's; raises as `check_output`."""
    for name, maker in MAKERS.items():
        outputs.check_output(folder / name, maker)


def stale_files(folder: Path, name: str | None = None) -> list[Path]:
    """Which of the files that `write_card` writes are not what it writes."""
    files = card_files(folder, name)
    return [file for file, text in files.items() if not file.is_file() or not holds(file, text.encode())]


def card_files(folder: Path, name: str | None = None, *, built_now: bool = False) -> dict[Path, str]:
    """The files that tell what is in a folder, and what they say. See `write_card`."""
    built = manifests(folder)
    before, picture = card_of(folder), folder / PICTURE
    if name is None:
        name = _name_before(before) or folder.resolve().name
    name = name.encode(errors="replace").decode()
    shown = [picture] if shows_pictures(built) and picture.is_file() else []
    charts = current_charts(folder)
    with as_expected(folder):
        needs = OF_FIRST if OF_FIRST in before and not built_now else ""
        text = _text(built, json_text(name).rstrip(), bool(shown), charts, needs)
        texts = {
            README: _as_it_stands(before, f"---\n{_yaml(built)}---\n\n{text}"),
            "dataset_infos.json": json_text(_infos(built)),
        }
        texts[SUMS] = sums_text(folder, built, texts, [*shown, *charts])
    return {folder / name: text for name, text in texts.items()}


def card_of(folder: Path) -> str:
    """The card that is in a folder; empty where there is none, or something larger than any card."""
    file = folder / README
    if not file.is_file() or file.stat().st_size > LARGEST_CARD:
        return ""
    return read_file(file, LARGEST_CARD).decode(errors="replace").replace("\r\n", "\n")


def _name_before(text: str) -> str:
    """By which name a card loads its folder; empty where it says none that could be one."""
    found = re.search(r'load_dataset\(("(?:[^"\\\n]|\\.){1,1000}")', text)
    with contextlib.suppress(ValueError):
        return str(json.loads(found[1])) if found else ""
    return ""


def _as_it_stands(before: str, text: str) -> str:
    """A text, or the one before if they differ only in the word for lists, which `datasets` 3 called sequences."""
    return before if before.replace("sequence:", "list:") == text else text


def _infos(built: Manifests) -> dict[str, Any]:
    return {
        config: {
            "description": f"{DESCRIPTION} {manifest['description']}",
            "citation": CITATION,
            "homepage": HOMEPAGE,
            "license": LICENSE,
            "features": manifest["features"],
            "config_name": config,
            "version": manifest["version"],
            "splits": {
                split: {"name": split, "num_bytes": about["plain_bytes"], "num_examples": about["rows"]}
                for split, about in manifest["splits"].items()
            },
            "download_size": sum(about["bytes"] for about in manifest["files"].values()),
            "dataset_size": sum(about["plain_bytes"] for about in manifest["splits"].values()),
        }
        for config, manifest in built.items()
    }


def _yaml(built: Manifests) -> str:
    """The head of the card, with the keys and in the order that the Hub's client writes."""
    import yaml

    rows = {config: sum(about["rows"] for about in manifest["splits"].values()) for config, manifest in built.items()}
    with_pictures = shows_pictures(built)
    infos = [_info_of(config, info) for config, info in sorted(_infos(built).items())]
    head = {
        "annotations_creators": ["machine-generated"],
        "language_creators": ["found"],
        "language": ["en"],
        "license": "other",
        "size_categories": sorted({_size(count) for count in rows.values()}, key=NAMES_OF_SIZES.index),
        "source_datasets": ["extended|other-visual-news"],
        "task_categories": ["image-classification", "text-classification"]
        if with_pictures
        else ["text-classification"],
        "pretty_name": "NewsCLIPpings",
        "license_name": "matches-apache-2.0-news-of-their-publishers",
        "license_link": VISUAL_NEWS_URL,
        "tags": list(TAGS),
        "extra_gated_prompt": GATE,
        "dataset_info": infos[0] if len(infos) == 1 else infos,
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in manifest["splits"]],
                **({"default": True} if config == _first(built) else {}),
            }
            for config, manifest in sorted(built.items())
        ],
    }
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True))


def _info_of(config: str, info: dict[str, Any]) -> dict[str, Any]:
    splits = [
        {"name": split, "num_bytes": about["num_bytes"], "num_examples": about["num_examples"]}
        for split, about in info["splits"].items()
    ]
    return {
        "config_name": config,
        "features": _in_yaml(info["features"])["struct"],
        "splits": splits,
        "download_size": info["download_size"],
        "dataset_size": info["dataset_size"],
    }


def _in_yaml(column: Any) -> dict[str, Any]:
    """The type of a column as `datasets` has it in the YAML of a card."""
    if isinstance(column, list):
        return {"list": _short(_in_yaml(column[0]))}
    kind = column.get("_type")
    if kind == "Value":
        return {"dtype": column["dtype"]}
    if kind == "Image":
        return {"dtype": "image"}
    if kind == "ClassLabel":
        return {"dtype": {"class_label": {"names": {str(k): name for k, name in enumerate(column["names"])}}}}
    if kind == "Sequence":
        length = {"length": column["length"]} if "length" in column else {}
        return {"list": _short(_in_yaml(column["feature"])), **length}
    return {"struct": [{"name": name, **_in_yaml(field)} for name, field in column.items()]}


def _short(inner: dict[str, Any]) -> Any:
    """What a list is of: a plain type, or the fields of a struct, need no name."""
    return next(iter(inner.values())) if list(inner) in (["dtype"], ["struct"]) else inner


def _size(rows: int) -> str:
    return NAMES_OF_SIZES[sum(rows >= size for size in SIZES)]


def _first(built: Manifests) -> str:
    """The config that is loaded when none is named."""
    return DEFAULT_CONFIG if DEFAULT_CONFIG in built else next(iter(built))


def _text(built: Manifests, name: str, picture: bool, charts: list[Path], needs: str) -> str:
    first = _first(built)
    with_pictures = shows_pictures(built)
    drawn = f"![Pairs of {first}: pristine in green, falsified in red]({PICTURE})\n\n"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        description=DESCRIPTION,
        version=version(built),
        homepage=HOMEPAGE,
        and_pictures=" and pictures" if with_pictures else "",
        paper=PAPER,
        visual_news=VISUAL_NEWS_URL,
        what_is_in_it=""
        if with_pictures
        else " There are no pictures in it: `image_path` says where each lies in VisualNews.",
        picture=drawn if picture else "",
        name=name,
        config=first,
        join=_join(built, name),
        fields=_fields(built),
        vectors=_vectors(built, needs),
        unique=ONCE_EACH if UNIQUE in built else "",
        splits=_splits(built),
        charts=_charts(charts),
        missing=_missing(built),
        report=_report(built),
        license=LICENSE,
        citation=CITATION,
    )


def _join(built: Manifests, name: str) -> str:
    """How configs whose pictures are stored once get them back."""
    thin = [config for config, manifest in built.items() if manifest.get("layout") == "once"]
    if UNIQUE not in built or not thin:
        return ""
    split = next(iter(built[UNIQUE]["splits"]))
    return f"""
The pictures of {_list(thin)} are in the config `{UNIQUE}`, once each. To have them in the rows:

```python
from newsclippings import join_images

rows = load_dataset({name}, "{thin[0]}", split="{split}")
pictures = load_dataset({name}, "{UNIQUE}", split="{split}")
full = join_images(rows, pictures)
```

That needs the package newsclippings, by which this was built (`pip install .` in a checkout of it). Without it, join
the Parquet files of both by `image_id`.
"""


def _fields(built: Manifests) -> str:
    known = dict(COLUMNS)
    for kind, about in EMBEDDINGS.items():
        known[kind] = (f"{'list of ' if about.faces else ''}float32 ({about.width},)", about.meaning)
    known |= TEXTS
    columns = dict.fromkeys(name for manifest in built.values() for name in manifest["features"])
    lines = []
    for name in columns:
        has = [config for config, manifest in built.items() if name in manifest["features"]]
        kind, meaning = known[name]
        only = "" if len(has) == len(built) or has == [c for c in built if c != UNIQUE] else f" (In {_list(has)}.)"
        lines.append([f"`{name}`", kind, meaning + only])
    return _table(["column", "type", "meaning"], lines, "lll")


def _vectors(built: Manifests, needs: str) -> str:
    """What readers of vectors have to know."""
    lacking = [
        kind
        for manifest in built.values()
        for about in manifest["splits"].values()
        for kind, count in about.get("report", {}).get("coverage", {}).items()
        if kind in EMBEDDINGS and count < about["rows"]
    ]
    if not lacking:
        return ""
    kinds = _list(sorted(set(lacking)))
    return f"\nRows without a vector have null there ({kinds}){needs}.\n"


def _splits(built: Manifests) -> str:
    lines = []
    for config, manifest in built.items():
        for split in (split for split in SPLITS if split in manifest["splits"]):
            about = manifest["splits"][split]
            counts = [f"{about[name]:,}" if name in about else "" for name in ("rows", "pristine", "falsified")]
            size = sum(file["bytes"] for file in manifest["files"].values() if file["split"] == split)
            lines.append([f"`{config}`", split, *counts, f"{size / 1e6:,.1f}"])
    return _table(["config", "split", "rows", "pristine", "falsified", "MB"], lines, "llrrrr")


def _charts(charts: list[Path]) -> str:
    """What `newsclippings stats` drew of these very rows."""
    drawn = [file for file in charts if file.suffix == ".png"]
    names = [file.stem.replace("-", ": ", 1).replace("-", " ") for file in drawn]
    lines = [f"![{name}]({file.parent.name}/{file.name})" for name, file in zip(names, drawn, strict=True)]
    return "\n".join(["", *lines, ""]) if lines else ""


def _missing(built: Manifests) -> str:
    """What was done where rows lacked something, by what the reports counted."""
    splits = [
        about["report"] for manifest in built.values() for about in manifest["splits"].values() if "report" in about
    ]
    told = []
    if dropped := sum(report["dropped_pairs"] for report in splits):
        told.append(
            f"Where a row lacked something, both twins were left out (`--missing drop_pair`); pairs: {dropped:,}."
        )
    if kept := sum(max(0, report["written"] - report["resolved"]) for report in splits):
        told.append(f"Rows that lack something were kept, with nulls (`--missing null`); rows: {kept:,}.")
    return " ".join(told) or "No row lacks a record or a file that was asked for."


def _report(built: Manifests) -> str:
    lines = []
    for config, manifest in built.items():
        for split, about in manifest["splits"].items():
            if report := about.get("report"):
                missing = {kind: sum(counts.values()) for kind, counts in report["missing"].items() if counts}
                lacking = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in missing.items()) or "-"
                covered = ", ".join(f"`{kind}` {count:,}" for kind, count in report["coverage"].items()) or "-"
                rows = [f"{report[name]:,}" for name in ("rows", "written", "resolved")]
                lines.append([f"`{config}`", split, *rows, lacking, covered])
    return _table(["config", "split", "official rows", "here", "complete", "missing", "values of"], lines, "llrrrll")


def _table(heads: list[str], lines: Iterable[list[str]], sides: str) -> str:
    rule = "|".join("---:" if side == "r" else "---" for side in sides)
    return "\n".join([f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
