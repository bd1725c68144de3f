"""The forms: how a row becomes a line of a text file, or members of a tar."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from _newsclippings.export.messages import ask, make_messages
from _newsclippings.export.rows import Row
from _newsclippings.facts import COLUMNS, LABELS, SPLITS

FACTS: Final = [name for name in COLUMNS if name != "image"]  # in this order


@dataclass(frozen=True)
class Context:
    """What a line depends on besides its row.

    Attributes:
        measures: what the column `source_dataset` numbers.
    """

    config: str
    split: str
    prompt: str
    measures: Sequence[str]


@dataclass(frozen=True)
class TextForm:
    """A form in which a split is one text file.

    Attributes:
        name: makes the name of the file of a config and a split.
        line: makes the line of a row.
        asks: whether a line has the prompt.
        head: makes what is before the lines.
        between: is between two lines.
        tail: is after the lines.
    """

    name: Callable[[str, str], str]
    line: Callable[[Row, Context], str]
    asks: bool = False
    head: Callable[[Context], str] = lambda _: ""
    between: str = "\n"
    tail: str = "\n"


def describe_row(row: Row, measures: Sequence[str]) -> Row:
    """Return the facts of a row, with the name of its measure."""
    source = row["source_dataset"]
    return {
        **{name: row[name] for name in FACTS},
        "source_dataset": None if source is None else measures[source],
    }


def _hydrate(row: Row, _: Context) -> str:
    """Make an annotation: the keys of the official file in their order, then those that trainers look up.

    news_clippings_training (datasets/news_clippings.py) takes `caption`, `image_path`, `id` and `falsified` of each
    annotation; its configuration has the folder that the paths are relative to (configs/news_clippings.yaml: images).
    Its database (datasets/database.py) takes the list `annotations`. Sniffer's own files have
    other keys: `img_path`, `idx` and `answer` (lavis/datasets/datasets/newsclip_factvqa_datasets.py).
    """
    score = row["similarity_score"]
    annotation = {
        "id": row["id"],
        "image_id": row["image_id"],
        "similarity_score": score if row["falsified"] or score != 1 else 1,  # an integer in the official file
        "source_dataset": row["source_dataset"],
        "falsified": bool(row["falsified"]),
        "caption": row["caption"],
        "image_path": row["image_path"],
        "index": row["index"],  # if pairs are dropped, what evidence is looked up by
    }
    return _json({key: value for key, value in annotation.items() if value is not None})


def _converse(row: Row, context: Context) -> str:
    """Make a sample of LLaVA (docs/Finetune_Custom_Data.md of haotian-liu/LLaVA)."""
    conversation = [
        {"from": "human", "value": f"<image>\n{ask(context.prompt, row['caption'])}"},
        {"from": "gpt", "value": LABELS[row["falsified"]]},
    ]
    name = f"{context.config}-{context.split}-{row['index']:06d}"
    return _json({"id": name, "image": row["image_path"], "conversations": conversation})


def _chat(row: Row, context: Context) -> str:
    messages = make_messages(context.prompt, row["caption"], row["falsified"])
    return _json({"index": row["index"], "messages": messages, "images": [row["image_path"]]})


def _tabulate(row: Row, context: Context) -> str:
    return _csv([*describe_row(row, context.measures).values()])


def _json(value: Row) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv(values: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # so that fields with either are quoted
    return text.getvalue().removesuffix("\r\n")


def _begin_hydrated(context: Context) -> str:
    sources = json.dumps({str(k): name for k, name in enumerate(context.measures)})
    return f'{{"source_datasets": {sources}, "annotations": [\n'


WEBDATASET: Final = "webdataset"
TEXT_FORMS: Final[Mapping[str, TextForm]] = {
    "hydrated": TextForm(
        lambda config, split: f"data/{config}/{SPLITS[split]}.json",  # as in the authors' tree
        _hydrate,
        head=_begin_hydrated,
        between=",\n",
        tail="\n]}\n",
    ),
    "llava": TextForm(
        lambda _, split: f"{split}.json", _converse, asks=True, head=lambda _: "[\n", between=",\n", tail="\n]\n"
    ),
    "messages": TextForm(lambda _, split: f"{split}.jsonl", _chat, asks=True),
    "csv": TextForm(lambda _, split: f"{split}.csv", _tabulate, head=lambda _: f"{_csv([*FACTS])}\n"),
}


class TarWriter:
    """Writes rows to a tar as the package webdataset reads them; equal rows give equal bytes."""

    def __init__(self, file: BinaryIO, measures: Sequence[str]) -> None:
        self._measures = measures
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 # closed by close()

    def add(self, row: Row) -> None:
        """Add the members of a row: its picture, caption, label and all facts."""
        key = f"{row['index']:08d}"
        if "image" in row:
            self._add(f"{key}.jpg", row["image"]["bytes"])
        self._add(f"{key}.txt", row["caption"].encode())
        self._add(f"{key}.cls", str(row["falsified"]).encode())
        self._add(f"{key}.json", _json(describe_row(row, self._measures)).encode())

    def close(self) -> None:
        """Write the end of the tar."""
        self._tar.close()

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # its time is 0, and its owner is nobody
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
