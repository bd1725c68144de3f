"""Measure how long `newsclippings generate --audit` takes at the size of val: `python -m benchmarks.auditing`.

The corpus is that of `benchmarks.matching`, with the number of records and the widths of vectors of val, and with four
hidden recipes, of which a filter keeps two thirds. `--folder` keeps the files, which another run then reads.
"""

import json
import pickle
import resource
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from _newsclippings.facts import EMBEDDING_FOLDERS
from _newsclippings.generate import Entities, Measure, Pool, Rule, audit, match, write_page
from _newsclippings.generate.rules import LABELS
from benchmarks.corpus import OUTLETS, TOPICS, rng
from benchmarks.matching import invent

RECORDS = 40_830
MERGED = 878  # pairs of each source
KEPT = 2 / 3
DIFFER = Rule(differ=("*",))
SOURCES = {  # vectors of captions and of candidates, and the rule
    "semantics_clip_text_image": ("clip_text", "clip_image", DIFFER),
    "semantics_clip_text_text": ("clip_text", "clip_text", DIFFER),
    "scene_resnet_place": ("places", "places", Rule(differ=("*",), without=("PERSON",), cap=0.9)),
    "person_sbert_text_text": (
        "sbert",
        "sbert",
        Rule(share=("PERSON",), differ=("*",), picture="has_person", cap=0.9),
    ),
}
Array = npt.NDArray[Any]


def write_world(folder: Path, count: int, block: int) -> None:
    """Write metadata, vectors and matches of val; each source is matched in blocks of so many records."""
    random = rng("auditing")
    vectors: dict[str, Array] = {}
    for width, kinds in ((512, ("clip_text", "clip_image")), (768, ("sbert", "")), (2048, ("", "places"))):
        invented = invent(count, width)
        vectors |= {name: each for name, each in zip(kinds, (invented.text, invented.image), strict=True) if name}
    entities = invented.pool.entities
    if entities is None:
        message = "the corpus has no entities."
        raise ValueError(message)
    others = [label for label in LABELS if label != "PERSON"]
    share = 1 / np.arange(1, len(others) + 1)
    of_name = random.choice(len(others), entities.names.max() + 1, p=share / share.sum()).astype(np.int32)
    labels = np.where(entities.labels == 1, len(others), of_name[entities.names]).astype(np.int32)
    named = Entities(count, entities.owners, entities.names, labels, (*others, "PERSON"))
    person = np.zeros(count, bool)
    person[entities.owners[entities.labels == 1]] = True
    blocks = (np.arange(count) // block).astype(np.int32)
    ids = random.permutation(1_259_732)[:count]
    folder = folder / "news_clippings"
    write_metadata(folder / "metadata" / "val.json", ids, named, person)
    for kind, each in vectors.items():
        place = folder / "embeddings" / EMBEDDING_FOLDERS[kind] / f"{EMBEDDING_FOLDERS[kind]}_val.pkl"
        place.parent.mkdir(parents=True)
        lengths = random.uniform(5, 12, (count, 1)).astype(np.float32)  # so that cosines are no dot products
        place.write_bytes(pickle.dumps(dict(zip(ids.tolist(), each * lengths, strict=True)), protocol=3))
    merged = []
    for number, (source, (query, against, rule)) in enumerate(SOURCES.items()):
        pool = Pool(count, named, {"block": blocks}, flags={"has_person": person})
        local = Rule(**{**vars(rule), "same": ("block",)})
        made = match(Measure(vectors[query], vectors[against]), pool, local)
        got = np.flatnonzero((made.picture >= 0) & (random.random(count) < KEPT))
        columns = ids[got], ids[made.picture[got]], made.score[got].round(6)
        pairs = [*zip(*(column.tolist() for column in columns), strict=True)]
        write_matches(folder / "data" / source / "val.json", [(None, *pair) for pair in pairs])
        merged += [(number, *pair) for pair in pairs[:: max(1, len(pairs) // MERGED)][:MERGED]]
    write_matches(folder / "data" / "merged_balanced" / "val.json", merged)


def write_metadata(place: Path, ids: Array, entities: Entities, person: Array) -> None:
    """Write records with entities, outlets, topics and times."""
    random, count = rng("auditing", "metadata"), len(ids)
    outlets = random.choice(list(OUTLETS), count, p=[*OUTLETS.values()]).tolist()
    topics, hours = random.choice(TOPICS, count).tolist(), random.integers(0, 90_000, count).tolist()
    names: list[list[list[str]]] = [[] for _ in range(count)]
    for owner, name, label in zip(entities.owners, entities.names, entities.labels, strict=True):
        names[owner].append([f"Name {name}", entities.known[label]])
    records = {
        str(number): {
            "id": number,
            "caption": " ".join(["A picture of", *(text for text, _ in names[k]), "in the news"]),
            "image_path": f"visual_news/origin/{outlets[k]}/images/{k // 1000:04d}/{k % 1000:03d}.jpg",
            "article_path": f"visual_news/origin/{outlets[k]}/articles/{number}.txt",
            "full_article_path": f"visual_news/articles/{outlets[k]}/{number}.json",
            "caption_entities_spacy": names[k],
            "caption_entities_rel": [[text.replace(" ", "_"), "MISC", text, 0.9] for text, _ in names[k][:1]],
            "image_has_person": bool(person[k]),
            "topic": topics[k],
            "source": outlets[k],
            "timestamp": (datetime(2010, 1, 1) + timedelta(hours=hours[k])).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "title": None,
            "title_entities_spacy": [],
        }
        for k, number in enumerate(ids.tolist())
    }
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(records))


def write_matches(place: Path, pairs: list[tuple[int | None, int, int, float]]) -> None:
    """Write twins."""
    rows = []
    for number, caption, picture, score in pairs:
        named = {} if number is None else {"source_dataset": number}
        row = {"id": caption, "image_id": caption, "similarity_score": 1, **named, "falsified": False}
        rows += [row, {**row, "image_id": picture, "similarity_score": score, "falsified": True}]
    place.parent.mkdir(parents=True)
    names = {str(number): name for number, name in enumerate(SOURCES)}
    place.write_text(json.dumps({"source_datasets": names, "annotations": rows}))


@click.command()
@click.option("--count", default=RECORDS, show_default=True, help="Records.")
@click.option("--block", default=5_000, show_default=True, help="Records of a block, in which matches are made.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the files here, or read those that are there.")
def main(count: int, block: int, folder: Path | None) -> None:
    """Print the page, and CPU seconds and peak memory."""
    with tempfile.TemporaryDirectory() as place:
        root = folder or Path(place)
        if not root.exists() or not [*root.iterdir()]:
            write_world(root, count, block)
        start = time.process_time()
        report = audit("merged_balanced", "val", root)
        seconds = time.process_time() - start
        click.echo(write_page(report))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    click.echo(f"{count:,} records: {seconds:.1f} CPU seconds, {peak:,} MiB at most, the making of the corpus included")


if __name__ == "__main__":
    main()
