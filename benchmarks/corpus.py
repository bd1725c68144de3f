"""Generate a NewsCLIPpings and a VisualNews with the shape and size of the real ones.

Everything that time and memory depend on is as in the real ones: number and layout of records and rows, lengths of
captions and paths, unordered ids with gaps, the spacing and escapes of `json.dump`, sizes and resolutions of pictures,
and pictures that several rows share. Captions are random words, pictures are random shapes.

    <folder>/captions/     data_dir: matches of two configs, data.json
    <folder>/pictures/     data_dir: matches whose pictures all exist, VisualNews extracted; rows.txt, a path per row
    <folder>/tar/          data_dir: the same matches, VisualNews as origin.tar
    <folder>/remote/       data_dir: the same matches, data.json; pictures come from a server
    <folder>/sparse.tar    a large tar of real headers, with holes for the data
    <folder>/embeddings.pkl
"""

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.corpus_pictures import Article, draw_pictures, sparse_sizes, unique
from benchmarks.corpus_tar import TarWriter

Int64s = npt.NDArray[np.int64]

SEED: Final = 2104_05893
OUTLETS: Final = {"bbc": 0.157, "guardian": 0.478, "usa_today": 0.188, "washington_post": 0.177}  # share of records
TOPICS: Final = (
    *("arts_culture", "business_economy", "conflict_attack", "disaster_accident", "education", "environment"),
    *("fashion", "film", "football", "health", "international_relations", "law_crime", "lifestyle", "media", "money"),
    *("music", "politics_elections", "science_technology", "sport", "travel", "uk-news", "us-news", "world"),
)
SOURCE_DATASETS: Final = (
    "semantics_clip_text_image",
    "semantics_clip_text_text",
    "scene_resnet_place",
    "person_sbert_text_text",
)
SPLITS: Final = {"train": 0.8, "val": 0.1, "test": 0.1}  # share of records
ROWS: Final = {  # as published, except val of semantics_clip_text_text, whose count is not published
    "merged_balanced": {"train": 71_072, "val": 7_024, "test": 7_264},
    "semantics_clip_text_text": {"train": 516_072, "val": 54_000, "test": 54_164},
}
RECORDS: Final = 1_259_732
PICTURES: Final = 20_000  # distinct pictures; the real merged_balanced uses 42,680
PICTURE_SHARE: Final = {"train": 0.96, "val": 0.02, "test": 0.02}
TAR_MEMBERS: Final = 500_000  # the real tar has 2.5 million
EMBEDDINGS: Final = 500_000
WIDTH: Final = 512
CHUNK: Final = 20_000


class Record(NamedTuple):
    """The part of a record that matches and pictures need; its caption is made later."""

    id: int
    outlet: str
    image_path: str
    article_path: str


def rng(*key: str) -> np.random.Generator:
    """Make the random numbers of one part, which do not depend on other parts."""
    return np.random.default_rng([SEED, *(int.from_bytes(part.encode(), "big") for part in key)])


def scaled(count: int, scale: float, least: int) -> int:
    """Scale a count, to `least` or more."""
    return max(least, round(count * scale))


def records(scale: float) -> list[Record]:
    """Make all records in the order of data.json: shuffled ids with gaps, paths numbered within each outlet."""
    random = rng("records")
    count = scaled(RECORDS, scale, 400)
    ids = random.choice(int(count * 1.03), count, replace=False)
    outlets = random.choice(len(OUTLETS), count, p=list(OUTLETS.values()))
    numbers = np.empty(count, np.int64)
    for outlet in range(len(OUTLETS)):
        own = np.flatnonzero(outlets == outlet)
        numbers[own] = random.permutation(int(len(own) * 1.02) + 1)[: len(own)]
    names = [list(OUTLETS)[k] for k in outlets.tolist()]
    return [
        Record(i, name, f"./{name}/images/{q // 1000:04d}/{q % 1000:03d}.jpg", f"./{name}/articles/{i}.txt")
        for i, name, q in zip(ids.tolist(), names, numbers.tolist(), strict=True)
    ]


def captions(count: int) -> Iterator[str]:
    """Yield captions of 3 to 60 frequent and rare words out of 60,000, some with accents, quotes and commas."""
    random = rng("captions")
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    weights = 1 / (np.arange(26) + 3)
    lengths = np.clip(random.gamma(5, 1.45, 60_000).astype(int), 2, 14)
    lengths[:200] = np.clip(lengths[:200] // 2, 1, 5)  # frequent words are short
    text = "".join(random.choice(letters, lengths.sum(), p=weights / weights.sum()).tolist())
    ends = np.cumsum(lengths).tolist()
    words = [text[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
    forms: tuple[Callable[[str], str], ...] = (
        *[str.capitalize] * 60,
        *[lambda word: word + ","] * 6,
        lambda word: word + "\u2019s",
        lambda word: word[0] + "\u00e9" + word[1:],
        lambda word: f"\u201c{word}\u201d",
        lambda word: f'"{word}"',
        *[lambda word: word] * 130,
    )
    for k, form in enumerate(random.integers(0, len(forms), len(words)).tolist()):
        words[k] = forms[form](words[k]) if k >= 50 else words[k]
    frequency = np.cumsum(1 / (np.arange(len(words)) + 8.0) ** 1.02)
    for start in range(0, count, CHUNK):
        sizes = np.clip(random.normal(19, 6.5, min(CHUNK, count - start)), 3, 60).astype(int)
        picks = np.searchsorted(frequency, random.random(sizes.sum()) * frequency[-1]).tolist()
        begin = 0
        for size in sizes.tolist():
            yield " ".join(words[k] for k in picks[begin : begin + size])
            begin += size


def write_data_json(path: Path, rows: list[Record]) -> None:
    """Write data.json of VisualNews: one list, in the format of `json.dump`."""
    topics = rng("topics").integers(0, len(TOPICS), len(rows)).tolist()
    texts = captions(len(rows))
    with open(path, "w", encoding="ascii") as out:
        for start in range(0, len(rows), CHUNK):
            chunk = [
                {
                    "id": row.id,
                    "caption": next(texts),
                    "topic": TOPICS[topics[start + k]],
                    "source": row.outlet,
                    "image_path": row.image_path,
                    "article_path": row.article_path,
                }
                for k, row in enumerate(rows[start : start + CHUNK])
            ]
            out.write(("[" if start == 0 else ", ") + json.dumps(chunk)[1:-1])
        out.write("]")


def write_matches(path: Path, ids: list[int], pictures: list[int], merged: bool) -> list[int]:
    """Write a file of matches, a pristine row and its falsified twin for each id; return the picture of each row."""
    random = rng("matches", path.parent.name, path.stem)
    scores = random.uniform(0.2, 0.95, len(ids)).round(6).tolist()
    rows: list[dict[str, Any]] = []
    for k, (record, picture, score) in enumerate(zip(ids, pictures, scores, strict=True)):
        measure = {"source_dataset": k % len(SOURCE_DATASETS)} if merged else {}
        for image, value, falsified in ((record, 1, False), (picture, score, True)):
            rows.append({"id": record, "image_id": image, "similarity_score": value, **measure, "falsified": falsified})
    head = {"source_datasets": {str(k): name for k, name in enumerate(SOURCE_DATASETS)}} if merged else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, "annotations": rows}), encoding="ascii")
    return [row["image_id"] for row in rows]


def make_captions(folder: Path, scale: float) -> None:
    """data.json and the matches of the default and of the largest config."""
    rows = records(scale)
    data_json = folder / "captions" / "visual_news" / "origin" / "data.json"
    data_json.parent.mkdir(parents=True)
    write_data_json(data_json, rows)
    shuffled = rng("splits").permutation([row.id for row in rows])
    start = 0
    for split, share in SPLITS.items():
        own = shuffled[start : (start := start + int(share * len(rows)))]
        for config, counts in ROWS.items():
            random = rng("pairs", config, split)
            pairs = min(scaled(counts[split], scale, 8) // 2, len(own))
            ids = random.choice(own, pairs, replace=False)
            merged = config == "merged_balanced"
            # merged_balanced uses each picture in two rows; in other configs pictures come from the whole split.
            pictures = np.roll(ids, 1) if merged else own[(len(own) * random.random(pairs) ** 1.7).astype(int)]
            path = folder / "captions" / "news_clippings" / "data" / config / f"{split}.json"
            write_matches(path, ids.tolist(), pictures.tolist(), merged)


def make_pictures(folder: Path, scale: float) -> None:
    """Make pictures and articles as a folder and as a tar, and matches that use only these pictures."""
    chosen = rng("chosen").choice(scaled(RECORDS, scale, 400), scaled(PICTURES, scale, 40), replace=False)
    rows = records(scale)
    used = sorted((rows[k] for k in chosen.tolist()), key=lambda row: row.image_path)
    data_json = folder / "captions" / "visual_news" / "origin" / "data.json"
    origin = folder / "pictures" / "visual_news" / "origin"
    for home in (origin, folder / "remote" / "visual_news" / "origin"):
        home.mkdir(parents=True)
        (home / "data.json").hardlink_to(data_json)
    tar = folder / "tar" / "visual_news" / "origin.tar"
    tar.parent.mkdir(parents=True)
    random = rng("pictures")
    pool = draw_pictures(random, count=min(48, max(6, len(used) // 8)))
    article = Article(random)
    with TarWriter(tar) as out:
        for row in used:
            for name, data in (
                (row.image_path, unique(pool[random.integers(len(pool))], row.id)),
                (row.article_path, article.text()),
            ):
                file = origin / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                out.add(f"origin/{name[2:]}", data)
        out.add_file("origin/data.json", data_json)
    _write_picture_matches(folder, used)


def _write_picture_matches(folder: Path, rows: list[Record]) -> None:
    paths = {row.id: row.image_path for row in rows}
    ids = rng("picture matches").permutation(list(paths)).tolist()
    counts = {split: max(4, int(share * len(ids))) for split, share in PICTURE_SHARE.items() if split != "train"}
    used: list[str] = []
    for split in SPLITS:
        count = counts.get(split, len(ids) - sum(counts.values()))
        own, ids = ids[:count], ids[count:]
        path = folder / "pictures" / "news_clippings" / "data" / "merged_balanced" / f"{split}.json"
        turned = own[1 + count // 3 :] + own[: 1 + count // 3]
        used += [paths[picture] for picture in write_matches(path, own, turned, merged=True)]
    (folder / "pictures" / "rows.txt").write_text("\n".join(used), encoding="ascii")
    for home in ("tar", "remote"):
        shutil.copytree(folder / "pictures" / "news_clippings", folder / home / "news_clippings")


def make_sparse(folder: Path, scale: float) -> None:
    """Make a tar with real headers and holes for data: indexing it takes as long as a real tar of so many members."""
    random = rng("sparse")
    pairs = scaled(TAR_MEMBERS, scale, 400) // 2
    pictures, articles = sparse_sizes(random, pairs)
    outlets = list(OUTLETS)
    with TarWriter(folder / "sparse.tar") as out:
        for k, (picture, article) in enumerate(zip(pictures, articles, strict=True)):
            outlet, number = outlets[k * len(outlets) // pairs], k % (pairs // len(outlets) + 1)
            out.hole(f"origin/{outlet}/images/{number // 1000:04d}/{number % 1000:03d}.jpg", picture)
            out.hole(f"origin/{outlet}/articles/{k}.txt", article)


def make_embeddings(folder: Path, scale: float) -> None:
    """Make a pickled dict of int to float32 array (512,), with separate arrays, as in the authors' files."""
    random = rng("embeddings")
    count = scaled(EMBEDDINGS, scale, 400)
    vectors = random.standard_normal((count, WIDTH), np.float32)
    ids = random.permutation(int(count * 1.3))[:count].tolist()
    with open(folder / "embeddings.pkl", "wb") as out:
        pickle.dump({record: vectors[k].copy() for k, record in enumerate(ids)}, out, protocol=3)


PARTS: Final = {
    "captions": make_captions,
    "pictures": make_pictures,  # after the captions, since it links to their data.json
    "sparse": make_sparse,
    "embeddings": make_embeddings,
}


def make(folder: Path, scale: float, parts: list[str]) -> None:
    """Make the missing parts of a corpus."""
    for part in (part for part in PARTS if part in parts):
        done = folder / f"{part}.done"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in {"pictures": ("pictures", "tar", "remote")}.get(part, (part,)):
                shutil.rmtree(folder / leftover, ignore_errors=True)  # of an interrupted run
            PARTS[part](folder, scale)
            done.touch()


if __name__ == "__main__":  # in a separate process, since the measuring process has to stay small
    make(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
