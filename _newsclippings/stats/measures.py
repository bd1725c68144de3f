"""Numbers of a built folder: scores, labels by outlet and topic, captions, pictures.

Files are read batch by batch; only three numbers of each row and four of each picture are kept.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from _newsclippings.facts import LABELS, PICTURE_FORMATS, VERSION
from _newsclippings.folder import BuiltFolder, Manifest, refuse_foreign_content
from _newsclippings.storage import STATS, Place, progress_bar, write_text
from _newsclippings.tables import values_of
from _newsclippings.text import format_json, printable

TOP: Final = 20  # topics, and pictures that are shown most often
UNKNOWN: Final = "unknown"  # outlet, topic or sub-split of rows without one
ROWS, ROWS_OF_PICTURES = 10_000, 100  # in a batch
LONGEST_NAME, MOST_NAMES = 1_000, 200_000  # characters of an outlet or topic; outlets or topics by label
BINS: Final = {"score": 0.02, "characters": 10, "pixels": 50}  # width of a histogram's bins
MAX_BINS: Final = 200
LARGEST_NUMBER: Final = 1e15  # larger measures cannot be put in bins or on the axes of charts
DECADE: Final = 10  # bins of a histogram of bytes between a number and its tenfold
GROUPS: Final = {"source": "captions", "image_source": "pictures", "topic": "captions", "image_topic": "pictures"}

Stats = dict[str, Any]
Numbers = Any  # an array of numbers (N,)


def folder_stats(folder: BuiltFolder) -> Stats:
    """Count and measure the rows and pictures of a folder.

    Returns:
        `{"version", "manifests": {config: SHA-256}, "configs": {config: ...}}`, of plain values. Of each config:
        `rows`: split -> label -> rows.
        `scores`: sub-split -> distribution of `similarity_score` on falsified rows (on pristine ones it is 1).
        `outlets`, `topics`: of `captions` and of `pictures`: name -> label -> rows; the most frequent first, and all
        topics after the first 20 together.
        `caption_characters`: distribution; each caption counts once.
        `reused`: `rows_per_picture`: n -> pictures that n rows show; `most`: the 20 shown most often.
        `pictures`: `count`, `missing`, `not_pictures`, and distributions of `bytes`, `width` and `height` (pixels, as
        stored); each picture counts once. None without an image column.
        A distribution has `count`, and if that is not 0, `min`, `p5`, `p25`, `median`, `p75`, `p95`, `max`, `mean`, and
        a histogram: `edges` (N + 1,) and `counts` (N,), of which the last includes its right edge.

    Raises:
        BadFileError: a file differs from its manifest, or holds values that `build` does not write.
    """
    manifests = folder.manifests.items()
    return {
        "version": VERSION,
        "manifests": {config: manifest.sha256 for config, manifest in manifests},
        "configs": {config: _config_stats(folder, manifest) for config, manifest in manifests},
    }


def write_stats(stats: Stats, file: Place) -> Place:
    """Write the numbers as JSON, the same bytes for the same numbers."""
    write_text(file, format_json(stats), STATS)
    return file


def _config_stats(folder: BuiltFolder, manifest: Manifest) -> Stats:
    with refuse_foreign_content(folder.root / manifest.config):
        pictures = _picture_stats(folder, manifest) if manifest.has_pictures else None
        if "falsified" not in manifest.features:  # the config of shared pictures
            return {"pictures": pictures}
        return {**_row_stats(folder, manifest), "pictures": pictures}


def _row_stats(folder: BuiltFolder, manifest: Manifest) -> Stats:
    counts: dict[str, Counter[Any]] = {name: Counter() for name in ("split", *GROUPS)}
    scores: dict[Any, list[Numbers]] = {}
    ids, lengths, shown = [], [], []
    columns = ["id", "image_id", "caption", "falsified", "similarity_score", "source_dataset", *GROUPS]
    names = manifest.features["source_dataset"]["names"]
    for split, batch in _batches(folder, manifest, columns, ROWS):
        falsified, measures = _labels(batch, "falsified", LABELS), _labels(batch, "source_dataset", names)
        counts["split"].update((split, label) for label in falsified.tolist())
        for name in GROUPS:
            _count(counts[name], batch.column(name), falsified)
        for k in np.unique(measures):
            own = values_of(batch.column("similarity_score"))[(measures == k) & (falsified == 1)]
            scores.setdefault(names[k] if k >= 0 else UNKNOWN, []).append(own)
        ids.append(values_of(batch.column("id")))
        lengths.append(_taken(pc.utf8_length(batch.column("caption").dictionary), batch.column("caption")))
        shown.append(values_of(batch.column("image_id")))
    _, first = np.unique(_joined(ids), return_index=True)
    each = _joined(lengths)[first]
    return {
        "rows": _by_label(counts["split"], len(manifest.splits), list(manifest.splits)),
        "scores": {name: _distribution(_joined(scores[name]), "score") for name in sorted(scores)},
        "outlets": {GROUPS[name]: _by_label(counts[name]) for name in ("source", "image_source")},
        "topics": {GROUPS[name]: _by_label(counts[name], TOP) for name in ("topic", "image_topic")},
        "caption_characters": _distribution(each[each >= 0], "characters"),
        "reused": _reused(_joined(shown)),
    }


def _picture_stats(folder: BuiltFolder, manifest: Manifest) -> Stats:
    """Sizes of the pictures: in bytes, and by their headers in pixels."""
    seen: dict[int, tuple[int, int, int]] = {}
    missing = set()
    for _, batch in _batches(folder, manifest, ["image_id", "image.bytes"], ROWS_OF_PICTURES):
        data = pc.struct_field(batch.column("image"), "bytes")
        for image_id, place in zip(batch.column("image_id").to_pylist(), data.indices.to_pylist(), strict=True):
            if place is None:
                missing.add(image_id)
            elif image_id not in seen:
                seen[image_id] = _size(data.dictionary[place].as_py())
    sizes = np.array(list(seen.values()), np.int64).reshape(-1, 3)
    known = sizes[sizes[:, 1] > 0]
    return {
        "count": len(seen),
        "missing": len(missing - seen.keys()),
        "not_pictures": len(sizes) - len(known),
        "bytes": _distribution(sizes[:, 0], "bytes"),
        "width": _distribution(known[:, 1], "pixels"),
        "height": _distribution(known[:, 2], "pixels"),
    }


def _size(data: bytes) -> tuple[int, int, int]:
    """Bytes, width and height of a picture, by its header; width and height are 0 if that cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=PICTURE_FORMATS) as picture:
            return len(data), picture.width, picture.height
    except Exception:  # Pillow raises anything for damaged or hostile files
        return len(data), 0, 0


def _batches(
    folder: BuiltFolder, manifest: Manifest, columns: list[str], size: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The split and up to `size` rows of columns, through all files of a config."""
    what = printable(f"{manifest.config}: {columns[-1]}")
    with progress_bar(total=manifest.rows, desc=what, unit="row", unit_scale=True) as bar:
        for shard in manifest.shards:
            for batch in folder.read_shard(shard, columns, size):
                yield shard.split, batch
                bar.update(len(batch))


def _labels(batch: pa.RecordBatch, name: str, known: Sequence[str]) -> Numbers:
    """The labels of a batch, -1 for null."""
    labels = values_of(batch.column(name).drop_null())
    if odd := labels[(labels < 0) | (labels >= len(known))].tolist():
        message = f"{name} is {odd[0]}"
        raise ValueError(message)
    return values_of(batch.column(name), -1)


def _count(counts: Counter[Any], names: pa.DictionaryArray, labels: Numbers) -> None:
    """Count rows by name and label."""
    places = _places(names)
    both, rows = np.unique(places * len(LABELS) + labels, return_counts=True)
    for pair, count in zip(both.tolist(), rows.tolist(), strict=True):
        place, label = divmod(pair, len(LABELS))
        name = names.dictionary[place].as_py() if place >= 0 else None
        if name is not None and len(name) > LONGEST_NAME:
            message = f"a name of {len(name):,} characters"
            raise ValueError(message)
        counts[name, label] += count
    if len(counts) > MOST_NAMES:
        message = f"more than {MOST_NAMES:,} names of outlets or topics"
        raise ValueError(message)


def _taken(values: pa.Array, texts: pa.DictionaryArray) -> Numbers:
    """The measures of the texts in a dictionary, for each row; -1 for null."""
    return np.append(values_of(values, -1), -1)[_places(texts)]


def _places(column: pa.DictionaryArray) -> Numbers:
    """The place of each row's text in the dictionary, -1 for null."""
    return values_of(column.indices, -1).astype(np.int64)


def _joined(parts: list[Numbers]) -> Numbers:
    return np.concatenate([np.zeros(0, np.int64), *parts]) if len(parts) != 1 else parts[0]


def _by_label(counts: Counter[Any], most: int | None = None, order: list[str] | None = None) -> dict[str, Any]:
    """Name -> label -> rows: in a given order, or the most frequent names first, and the rest together."""
    names: Counter[Any] = Counter()
    for (name, _), count in counts.items():
        names[name] += count
    order = order or sorted(names, key=lambda name: (-names[name], name or ""))
    shown, others = order[:most], order[len(order) if most is None else most :]
    by_label = {
        UNKNOWN if name is None else name: {label: counts[name, k] for k, label in enumerate(LABELS)} for name in shown
    }
    if others:
        labels = enumerate(LABELS)
        by_label[f"({len(others):,} others)"] = {label: sum(counts[name, k] for name in others) for k, label in labels}
    return by_label


def _reused(image_ids: Numbers) -> Stats:
    pictures, rows = np.unique(image_ids, return_counts=True)
    uses, how_many = np.unique(rows, return_counts=True)
    first = np.lexsort([pictures, -rows])[:TOP]
    return {
        "rows_per_picture": dict(zip(map(str, uses.tolist()), how_many.tolist(), strict=True)),
        "most": [{"image_id": int(pictures[k]), "rows": int(rows[k])} for k in first],
    }


def _distribution(values: Numbers, unit: str) -> Stats:
    if not len(values):
        return {"count": 0}
    low, high = float(values.min()), float(values.max())
    if not max(abs(low), abs(high)) <= LARGEST_NUMBER:  # true of NaN, too
        message = f"{unit}: numbers from {low} to {high}"
        raise ValueError(message)
    if unit == "bytes":
        ends = (np.floor(np.log10(max(low, 1)) * DECADE), np.floor(np.log10(max(high, 1)) * DECADE) + 1)
        edges = 10 ** (np.arange(ends[0], ends[1] + 1) / DECADE)
    else:
        width = BINS[unit]
        while (high - low) / width > MAX_BINS:
            width *= 2
        edges = np.arange(np.floor(low / width), np.floor(high / width) + 2) * width
    edges = np.round(edges, 6)
    shares = {"p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95}
    quantiles = dict(zip(shares, np.percentile(values, list(shares.values())).tolist(), strict=True))
    counts, _ = np.histogram(values, edges)
    summary = {"count": len(values), "min": low, **quantiles, "max": high, "mean": float(values.mean())}
    return {**summary, "edges": edges.tolist(), "counts": counts.tolist()}
