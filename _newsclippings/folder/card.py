"""The card of a built folder, its dataset_infos.json and its SHA256SUMS, made of a template and the manifests."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from _newsclippings.facts import (
    CITATION,
    COLUMNS,
    DESCRIPTION,
    EMBEDDINGS,
    HOMEPAGE,
    LICENSE,
    SHARED_PICTURES,
    SPLITS,
    TEXTS,
    VISUAL_NEWS_URL,
)
from _newsclippings.folder.built_folder import LARGEST_BESIDE, SUMS, BuiltFolder, sha256_of
from _newsclippings.folder.manifest import MANIFEST, Manifest
from _newsclippings.generated import is_name
from _newsclippings.storage import Place, has_content, open_place, outputs, read_file, write_text
from _newsclippings.text import format_json

LARGEST_CARD = 4 << 20  # bytes of a card
TEMPLATE = Path(__file__).with_name("card.md")
README = "README.md"
PAIRS_FILE = "pairs.png"
MAKERS = {README: outputs.CARD, "dataset_infos.json": outputs.CARD_INFOS, SUMS: outputs.SUMS}
TAGS = ("misinformation", "out-of-context", "fact-checking", "image-text", "news")
SIZES = (1_000, 10_000, 100_000, 1_000_000)  # of the Hub's size categories
NAMES_OF_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
PAPER = "https://arxiv.org/abs/2104.05893"
NOTE_OF_FIRST = ", which needs pyarrow 26 or later to be read"  # vectors with nulls, as version 1.0.0 wrote them
NOTE_OF_SHARED = f" Not so the config `{SHARED_PICTURES}`: it has each `image_id` once a split, in ascending order."
GATE = (
    "The captions, articles and pictures belong to their publishers, and VisualNews is given out by its authors on "
    "request, for research. Say who you are and what you will do with the data; you may not pass them on."
)


def write_card(folder: BuiltFolder, name: str | None = None, *, built_now: bool = False) -> None:
    """Write README.md, dataset_infos.json and SHA256SUMS of a folder.

    Args:
        folder: the folder.
        name: the name that it is loaded by. Default: the name in its present card, or the folder's own.
        built_now: whether a build has just written its files, so that no remark of the present card is kept.

    Raises:
        ConfigError: one of the files exists and was not written by this.
    """
    texts = card_texts(folder, folder.find_charts(), name, built_now=built_now)
    check_card(folder)
    for file, text in texts.items():
        write_text(folder.root / file, text, MAKERS[file])


def check_card(folder: BuiltFolder) -> None:
    """Refuse to replace files that only have the names of a card's; raises as `check_output`."""
    for name, maker in MAKERS.items():
        outputs.check_output(folder.root / name, maker)


def stale_files(folder: BuiltFolder, charts: list[Place], name: str | None = None) -> list[Place]:
    """The files of the card that differ from what `write_card` would write."""
    texts = {folder.root / file: text for file, text in card_texts(folder, charts, name).items()}
    return [file for file, text in texts.items() if not file.is_file() or not has_content(file, text.encode())]


def card_texts(
    folder: BuiltFolder, charts: list[Place], name: str | None = None, *, built_now: bool = False
) -> dict[str, str]:
    """File name -> text of the files that `write_card` writes.

    Args:
        folder: the folder.
        charts: the charts to show, see `BuiltFolder.find_charts`.
        name: as `write_card`.
        built_now: as `write_card`.
    """
    before, picture = _read_card(folder), folder.root / PAIRS_FILE
    if name is None:
        name = _name_in(before) or folder.root.resolve().name
    name = name.encode(errors="replace").decode()
    drawn = [picture] if folder.has_pictures and picture.is_file() else []
    note = NOTE_OF_FIRST if NOTE_OF_FIRST in before and not built_now else ""
    text = _text(folder, format_json(name).rstrip(), bool(drawn), charts, note)
    texts = {
        README: _keep_older_words(before, f"---\n{_yaml(folder)}---\n\n{text}"),
        "dataset_infos.json": format_json(_infos(folder)),
    }
    return texts | {SUMS: _sums_text(folder, texts, [*drawn, *charts])}


def _sums_text(folder: BuiltFolder, texts: Mapping[str, str], others: Iterable[Place]) -> str:
    """The text of SHA256SUMS, for `sha256sum --check`: a line per file, by name.

    Of the folder's files only `others` are read; `texts` are written together with it.
    """
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    sums |= {shard.path: shard.sha256 for shard in folder.shards}
    sums |= {f"{config}/{MANIFEST}": manifest.sha256 for config, manifest in folder.manifests.items()}
    sums |= {_name_below(folder.root, file): sha256_of(file, LARGEST_BESIDE) for file in others}
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def _name_below(root: Place, file: Place) -> str:
    return file.name if file.parent == root else f"{file.parent.name}/{file.name}"


def _read_card(folder: BuiltFolder) -> str:
    """The present card; empty without one, or if the file is larger than any card."""
    file = folder.root / README
    if not file.is_file():
        return ""
    with open_place(file) as opened:
        if opened.size > LARGEST_CARD:
            return ""
    return read_file(file, LARGEST_CARD).decode(errors="replace").replace("\r\n", "\n")


def _name_in(text: str) -> str:
    """The name by which a card loads its folder; empty if it has none."""
    call = re.search(r'load_dataset\(("(?:[^"\\\n]|\\.){1,1000}")', text)
    with contextlib.suppress(ValueError):
        return str(json.loads(call[1])) if call else ""
    return ""


def _keep_older_words(before: str, text: str) -> str:
    """The text before, if it differs only in the word for lists, which `datasets` 3 called sequences."""
    return before if before.replace("sequence:", "list:") == text else text


def _infos(folder: BuiltFolder) -> dict[str, Any]:
    return {
        config: {
            "description": f"{DESCRIPTION} {manifest.description}",
            "citation": CITATION,
            "homepage": HOMEPAGE,
            "license": LICENSE,
            "features": manifest.features,
            "config_name": config,
            "version": manifest.version,
            "splits": {
                name: {"name": name, "num_bytes": split.plain_bytes, "num_examples": split.rows}
                for name, split in manifest.splits.items()
            },
            "download_size": sum(shard.bytes for shard in manifest.shards),
            "dataset_size": sum(split.plain_bytes for split in manifest.splits.values()),
        }
        for config, manifest in folder.manifests.items()
    }


def _yaml(folder: BuiltFolder) -> str:
    """The head of the card, with the keys and in the order that the Hub's client writes."""
    import yaml

    infos = [_yaml_info(info) for _, info in sorted(_infos(folder).items())]
    head = {
        "annotations_creators": ["machine-generated"],
        "language_creators": ["found"],
        "language": ["en"],
        "license": "other",
        "size_categories": sorted({_size(m.rows) for m in folder.manifests.values()}, key=NAMES_OF_SIZES.index),
        "source_datasets": ["extended|other-visual-news"],
        "task_categories": ["image-classification"] * folder.has_pictures + ["text-classification"],
        "pretty_name": "NewsCLIPpings",
        "license_name": "matches-apache-2.0-news-of-their-publishers",
        "license_link": VISUAL_NEWS_URL,
        "tags": list(TAGS),
        "extra_gated_prompt": GATE,
        "dataset_info": infos[0] if len(infos) == 1 else infos,
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in manifest.splits],
                **({"default": True} if config == folder.default_config else {}),
            }
            for config, manifest in sorted(folder.manifests.items())
        ],
    }
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True))


def _yaml_info(info: dict[str, Any]) -> dict[str, Any]:
    changed = {"features": _in_yaml(info["features"])["struct"], "splits": [*info["splits"].values()]}
    names = ("config_name", "features", "splits", "download_size", "dataset_size")
    return {name: changed.get(name, info[name]) for name in names}


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
    """The type of a list's items without a key: a plain type, or the fields of a struct."""
    return next(iter(inner.values())) if list(inner) in (["dtype"], ["struct"]) else inner


def _size(rows: int) -> str:
    return NAMES_OF_SIZES[sum(rows >= size for size in SIZES)]


def _text(folder: BuiltFolder, name: str, drawn: bool, charts: list[Place], note: str) -> str:
    config, manifests = folder.default_config, folder.manifests.values()
    picture = f"![Pairs of {config}: pristine in green, falsified in red]({PAIRS_FILE})\n\n"
    no_pictures = " There are no pictures in it: `image_path` says where each lies in VisualNews."
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        description=DESCRIPTION,
        version=folder.version,
        homepage=HOMEPAGE,
        and_pictures=" and pictures" if folder.has_pictures else "",
        paper=PAPER,
        visual_news=VISUAL_NEWS_URL,
        what_is_in_it="" if folder.has_pictures else no_pictures,
        picture=picture if drawn else "",
        name=name,
        config=config,
        join=_join(folder, name),
        fields=_fields(folder),
        vectors=_vectors(manifests, note),
        unique=NOTE_OF_SHARED if SHARED_PICTURES in folder.manifests else "",
        splits=_splits(manifests),
        charts=_charts(charts),
        missing=_missing(manifests),
        report=_report(manifests),
        generated=_generated(manifests),
        license=LICENSE,
        citation=CITATION,
    )


def _generated(manifests: Iterable[Manifest]) -> str:
    """What to know of configs that were generated, and not made by the authors; nothing without any."""
    own = [manifest for manifest in manifests if is_name(manifest.config)]
    if not own:
        return ""
    lines = "\n".join(f"- `{manifest.config}`: {manifest.description}" for manifest in own)
    return f"""## Generated configs

{lines}

`newsclippings generate` made these matches, by rules, and not the authors. Rules compare entities as texts: two names
of one person or place count as two, and what a picture shows beyond its caption is unknown, so that a falsified pair
may be true. They are for research on the detection of pictures out of context: labels and ids belong to every row that
is passed on. What follows is about the configs of the authors.

"""


def _join(folder: BuiltFolder, name: str) -> str:
    """How to join the rows with pictures: those of VisualNews, or the shared ones of the configs that use them."""
    sharing = folder.sharing_configs
    if not folder.has_pictures:
        config = folder.default_config
        return f"""
To have the pictures of your own copy of VisualNews in the rows:

```python
from newsclippings import join_images

rows = load_dataset({name}, "{config}", split="{next(iter(folder.manifests[config].splits))}")
full = join_images(rows, visual_news="/path/to/origin.tar")
```

That needs the package newsclippings, by which this was built (`pip install .` in a checkout of it). VisualNews is its
folder `origin` or its tar, which need not be extracted; `load_dataset` may stream.
"""
    if SHARED_PICTURES not in folder.manifests or not sharing:
        return ""
    split = next(iter(folder.manifests[SHARED_PICTURES].splits))
    return f"""
The pictures of {_list(sharing)} are in the config `{SHARED_PICTURES}`, once each. To have them in the rows:

```python
from newsclippings import join_images

rows = load_dataset({name}, "{sharing[0]}", split="{split}")
pictures = load_dataset({name}, "{SHARED_PICTURES}", split="{split}")
full = join_images(rows, pictures)
```

That needs the package newsclippings, by which this was built (`pip install .` in a checkout of it). Without it, join
the Parquet files of both by `image_id`.
"""


def _fields(folder: BuiltFolder) -> str:
    own = {name: about for manifest in folder.manifests.values() for name, about in manifest.vectors.items()}
    known = COLUMNS | TEXTS
    for name, about in (EMBEDDINGS | own).items():
        known[name] = (f"{'list of ' if about.several else ''}{about.dtype} ({about.width},)", about.meaning)
    columns = dict.fromkeys(name for manifest in folder.manifests.values() for name in manifest.features)
    all_configs, lines = [*folder.manifests], []
    for name in columns:
        configs = [config for config, manifest in folder.manifests.items() if name in manifest.features]
        kind, meaning = known[name]
        everywhere = configs in (all_configs, [config for config in all_configs if config != SHARED_PICTURES])
        lines.append([f"`{name}`", kind, meaning + ("" if everywhere else f" (In {_list(configs)}.)")])
    return _table(["column", "type", "meaning"], lines, "lll")


def _vectors(manifests: Iterable[Manifest], note: str) -> str:
    """What readers of vectors have to know."""
    lacking = {
        kind
        for manifest in manifests
        for _, split, report in manifest.reports()
        for kind, count in report.coverage.items()
        if (kind in EMBEDDINGS or kind in manifest.vectors) and count < split.rows
    }
    return f"\nRows without a vector have null there ({_list(sorted(lacking))}){note}.\n" if lacking else ""


def _splits(manifests: Iterable[Manifest]) -> str:
    lines = []
    for manifest in manifests:
        for name in (name for name in SPLITS if name in manifest.splits):
            split = manifest.splits[name]
            counts = (split.rows, split.pristine, split.falsified)
            shown = ["" if count is None else f"{count:,}" for count in counts]
            size = sum(shard.bytes for shard in manifest.shards_of(name))
            lines.append([f"`{manifest.config}`", name, *shown, f"{size / 1e6:,.1f}"])
    return _table(["config", "split", "rows", "pristine", "falsified", "MB"], lines, "llrrrr")


def _charts(charts: list[Place]) -> str:
    """The charts that `newsclippings stats` drew of these very rows."""
    drawn = [file for file in charts if file.suffix == ".png"]
    names = [file.stem.replace("-", ": ", 1).replace("-", " ") for file in drawn]
    lines = [f"![{name}]({file.parent.name}/{file.name})" for name, file in zip(names, drawn, strict=True)]
    return "\n".join(["", *lines, ""]) if lines else ""


def _missing(manifests: Iterable[Manifest]) -> str:
    """What was done with rows that lacked something, by the counts of the reports."""
    reports = [report for manifest in manifests for _, _, report in manifest.reports()]
    sentences = []
    if dropped := sum(report.dropped_pairs for report in reports):
        sentences.append(
            f"Where a row lacked something, both twins were left out (`--missing drop_pair`); pairs: {dropped:,}."
        )
    if kept := sum(max(0, report.written - report.resolved) for report in reports):
        sentences.append(f"Rows that lack something were kept, with nulls (`--missing null`); rows: {kept:,}.")
    return " ".join(sentences) or "No row lacks a record or a file that was asked for."


def _report(manifests: Iterable[Manifest]) -> str:
    lines = []
    for manifest in manifests:
        for name, _, report in manifest.reports():
            missing = {kind: sum(counts.values()) for kind, counts in report.missing.items() if counts}
            lacking = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in missing.items()) or "-"
            covered = ", ".join(f"`{kind}` {count:,}" for kind, count in report.coverage.items()) or "-"
            rows = [f"{count:,}" for count in (report.rows, report.written, report.resolved)]
            lines.append([f"`{manifest.config}`", name, *rows, lacking, covered])
    return _table(["config", "split", "official rows", "here", "complete", "missing", "values of"], lines, "llrrrll")


def _table(heads: list[str], lines: Iterable[list[str]], sides: str) -> str:
    rule = "|".join("---:" if side == "r" else "---" for side in sides)
    return "\n".join([f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
