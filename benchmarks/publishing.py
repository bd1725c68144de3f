"""What publishing costs: `python -m benchmarks.publishing` puts invented configs in a store like the Hub's.

The Hub keeps files in Xet, which stores equal chunks (of about 64 KiB) once. Its own client cuts and stores here, in a
folder instead of at a server. Pictures are noise, so that nothing is saved by chance.
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

POOL = 385_003  # pictures of the train split: as many as its metadata have entries (DATA: counted in the file)
MEAN, SPREAD = 60_000, 0.45  # bytes of a picture: median, and sigma of its logarithm
LAYOUTS = {"bytes": "pictures in the rows of every config", "once": "--images once", "none": "--images none"}


def make_corpus(folder: Path, scale: float) -> int:
    """A train split of five configs that share their pictures; returns the bytes of the pictures that are used."""
    rows = records(max(scale, 400 / 1_259_732))[: scaled(POOL, scale, 200)]
    origin = folder / "visual_news" / "origin"
    origin.mkdir(parents=True)
    write_data_json(origin / "data.json", rows)
    ids, used = [row.id for row in rows], set()
    pairs: dict[str, list[tuple[int, int]]] = {}
    for config in (config for config in CONFIGS if config != "merged_balanced"):
        random = rng("publishing", config)
        count = min(scaled(ROWS[config]["train"] or 0, scale, 16) // 2, len(ids))
        mine = random.choice(ids, count, replace=False).tolist()
        pairs[config] = list(zip(mine, random.choice(ids, count).tolist(), strict=True))
    share = len(pairs["person_sbert_text_text"])
    pairs["merged_balanced"] = [pair for some in pairs.values() for pair in some[:share]]
    for config, some in pairs.items():
        path = folder / "news_clippings" / "data" / config / "train.json"
        used |= set(write_matches(path, [a for a, _ in some], [b for _, b in some], config == "merged_balanced"))
    total, random = 0, rng("publishing", "pictures")
    for row in (row for row in rows if row.id in used):
        data = b"\xff\xd8\xff" + random.bytes(int(np.clip(random.lognormal(np.log(MEAN), SPREAD), 8_000, 400_000)))
        file = origin / row.image_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        total += len(data)
    return total


def stored(files: list[Path], store: Path) -> int:
    """Bytes that the Hub's client stores of some files, in a folder."""
    import hf_xet

    with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}") as commit:
        for file in files:
            commit.start_upload_file(str(file))
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


def table(scale: float, folder: Path) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    pictures = make_corpus(folder / "corpus", scale)
    yield f"Pictures that are used, each once: {pictures / 1e6:,.1f} MB.\n"
    yield "| layout | files, MB | x pictures | stored, MB | x pictures |\n|---|---:|---:|---:|---:|"
    for layout, meaning in LAYOUTS.items():
        out = folder / layout
        build_folder(out, CONFIGS, images=layout, splits=["train"], data_dir=str(folder / "corpus"))
        files = sorted(out.rglob("*.parquet"))
        plain, kept = sum(file.stat().st_size for file in files), stored(files, folder / f"store-{layout}")
        shutil.rmtree(out)
        yield f"| {meaning} | {plain / 1e6:,.1f} | {plain / pictures:.2f} | {kept / 1e6:,.1f} | {kept / pictures:.2f} |"


@click.command()
@click.option("--scale", default=0.01, show_default=True, help="Fraction of the real size.")
def main(scale: float) -> None:
    """Weigh what publishing five configs costs in each layout."""
    with tempfile.TemporaryDirectory() as folder:
        for line in table(scale, Path(folder)):
            click.echo(line)


if __name__ == "__main__":
    main()
