"""Measure the storage that published configs take on the Hub: `python -m benchmarks.publishing`.

The Hub keeps files in Xet, which stores equal chunks (of about 64 KiB) once. Here its own client stores generated
configs in a local folder. Pictures are noise, so that no two chunks are equal by chance.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from _newsclippings.facts import CONFIGS, ROWS
from _newsclippings.folder import build_folder
from benchmarks.corpus import records, rng, scaled, write_data_json, write_matches

POOL = 385_003  # pictures of the train split: the number of entries in its metadata file
MEAN, SPREAD = 60_000, 0.45  # size of a picture in bytes: median, and sigma of its logarithm
LAYOUTS = {"bytes": "pictures in the rows of every config", "once": "--images once", "none": "--images none"}


def make_corpus(folder: Path, scale: float) -> int:
    """Make the train splits of five configs that share pictures; return the size of the used pictures, in bytes."""
    rows = records(max(scale, 400 / 1_259_732))[: scaled(POOL, scale, 200)]
    origin = folder / "visual_news" / "origin"
    origin.mkdir(parents=True)
    write_data_json(origin / "data.json", rows)
    ids, used = [row.id for row in rows], set()
    pairs: dict[str, list[tuple[int, int]]] = {}
    for config in (config for config in CONFIGS if config != "merged_balanced"):
        random = rng("publishing", config)
        count = min(scaled(ROWS[config]["train"] or 0, scale, 16) // 2, len(ids))
        own = random.choice(ids, count, replace=False).tolist()
        pairs[config] = list(zip(own, random.choice(ids, count).tolist(), strict=True))
    share = len(pairs["person_sbert_text_text"])
    pairs["merged_balanced"] = [pair for chosen in pairs.values() for pair in chosen[:share]]
    for config, chosen in pairs.items():
        path = folder / "news_clippings" / "data" / config / "train.json"
        used |= set(write_matches(path, [a for a, _ in chosen], [b for _, b in chosen], config == "merged_balanced"))
    total, random = 0, rng("publishing", "pictures")
    for row in (row for row in rows if row.id in used):
        data = b"\xff\xd8\xff" + random.bytes(int(np.clip(random.lognormal(np.log(MEAN), SPREAD), 8_000, 400_000)))
        file = origin / row.image_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        total += len(data)
    return total


def store_files(files: list[Path], store: Path) -> int:
    """Store files with the Hub's client in a folder, and return the bytes that it stored."""
    import hf_xet

    with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}") as commit:
        for file in files:
            commit.start_upload_file(str(file))
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


def table(scale: float, folder: Path) -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    pictures = make_corpus(folder / "corpus", scale)
    yield f"Size of the used pictures, without duplicates: {pictures / 1e6:,.1f} MB.\n"
    yield "| layout | files, MB | x pictures | stored, MB | x pictures |\n|---|---:|---:|---:|---:|"
    for layout, meaning in LAYOUTS.items():
        out = folder / layout
        build_folder(out, CONFIGS, images=layout, splits=["train"], data_dir=str(folder / "corpus"))
        files = sorted(out.rglob("*.parquet"))
        plain, kept = sum(file.stat().st_size for file in files), store_files(files, folder / f"store-{layout}")
        shutil.rmtree(out)
        yield f"| {meaning} | {plain / 1e6:,.1f} | {plain / pictures:.2f} | {kept / 1e6:,.1f} | {kept / pictures:.2f} |"


@click.command()
@click.option("--scale", default=0.01, show_default=True, help="Fraction of the real size.")
def main(scale: float) -> None:
    """Measure the storage that five published configs take in each layout."""
    with tempfile.TemporaryDirectory() as folder:
        for line in table(scale, Path(folder)):
            click.echo(line)


if __name__ == "__main__":
    main()
