"""Embed the sample with real weights, join the vectors, draw the nearest pictures of captions: `make demo-embed`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Image, concatenate_datasets, load_dataset

import newsclippings
from _newsclippings.show import write_sample
from examples.nearest_page import draw
from examples.real_weights import write_minilm


def rank(captions: Any, pictures: Any) -> tuple[Any, Any]:
    """Return cosine similarities, and for each caption the pictures from the nearest on."""
    captions, pictures = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (captions, pictures))
    scores = captions @ pictures.T
    return scores, np.argsort(-scores, axis=1, kind="stable")


def main(folder: Path) -> None:
    data, vectors = str(write_sample(folder / "data")), folder / "vectors"
    minilm = f"onnx:{write_minilm(folder / 'minilm')}"
    newsclippings.embed(vectors / "captions", model=minilm, of="captions", ids="all", data_dir=data)
    newsclippings.embed(
        vectors / "pictures", model="py:examples.encoders:like_clip", of="pictures", ids="all", data_dir=data
    )
    places = {"text": str(vectors / "captions"), "picture": str(vectors / "pictures")}
    splits = load_dataset("newsclippings", "semantics_clip_text_image", data_dir=data, embeddings=places)
    rows = concatenate_datasets(list(splits.values())).filter(
        lambda falsified: not falsified, input_columns="falsified"
    )
    rows = rows.cast_column("image", Image(decode=False))
    scores, order = rank(*(np.array(rows[name][:]) for name in places))
    ranks = (order == np.arange(len(rows))[:, None]).argmax(1)
    first, five = ((f"{(ranks < k).mean():.0%}", f"by chance {k / len(rows):.0%}") for k in (1, 5))
    summary = (
        f"Of {len(rows)} captions, the nearest picture is their own for {first[0]} (R@1; {first[1]}), and one of the "
        f"five nearest for {five[0]} (R@5; {five[1]})."
    )
    (folder / "nearest.html").write_text(draw(rows, scores, order, summary), encoding="utf-8")
    print(f"{summary}\nThe nearest pictures of each caption are drawn in {folder / 'nearest.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
