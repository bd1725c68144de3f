"""How well `embed` feeds a GPU: `python -m benchmarks.device`, under five minutes with the default options.

A CLIP with random weights, saved as its users save theirs, encodes invented pictures of a folder and of a tar. The rate
of all together is compared with those of reading and decoding alone, and of the model alone on random tensors that are
on the device already.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import newsclippings
from _newsclippings.embed import Encoder, open_encoder
from benchmarks.corpus import rng
from benchmarks.corpus_pictures import draw_pictures, unique
from benchmarks.corpus_tar import TarWriter

SIZES: dict[str, dict[str, int]] = {  # of the picture side; its defaults are those of ViT-B/32
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "b32": {},
    "l14": {
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "patch_size": 14,
    },
}
SECONDS = 10.0  # that the model alone is measured


def make_corpus(folder: Path, count: int) -> None:
    """Write data.json and pictures, as a folder and as a tar."""
    pool, origin = draw_pictures(rng("device"), 48), folder / "visual_news" / "origin"
    origin.mkdir(parents=True)
    records = []
    with TarWriter(folder / "pictures.tar") as tar:
        for number in range(count):
            path, data = f"bbc/images/{number // 1000:04d}/{number % 1000:03d}.jpg", unique(pool[number % 48], number)
            (origin / path).parent.mkdir(parents=True, exist_ok=True)
            (origin / path).write_bytes(data)
            tar.add(f"origin/{path}", data)
            rest = {"caption": "x", "topic": "y", "source": "bbc", "article_path": f"./bbc/articles/{number}.txt"}
            records.append({"id": number, "image_path": f"./{path}", **rest})
    (origin / "data.json").write_text(json.dumps(records), encoding="utf-8")


def save_model(folder: Path, size: str) -> None:
    """Save a CLIP with random weights and its preprocessing."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(CLIPConfig(text_config=text, vision_config=SIZES[size])).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def time_model(folder: Path, device: str, batch: int) -> float:
    """Return the pictures per second of the model, on random tensors on the device."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval().to(device)
    pixels = torch.randn(batch, 3, 224, 224, device=device)
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    with torch.inference_mode():
        model.get_image_features(pixel_values=pixels)
        wait()
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            model.get_image_features(pixel_values=pixels)
            wait()
            done += batch
    return done / (time.perf_counter() - start)


def time_embed(out: Path, encoder: Encoder, data: Path, place: Path) -> float:
    """Return the pictures per second from the first picture that is prepared to the end, checksums included."""
    started: list[float] = []

    def prepare(picture: Any) -> Any:
        if not started:
            started.append(time.perf_counter())
        return encoder.prepare(picture)

    made = newsclippings.embed(
        out, replace(encoder, prepare=prepare), ids="all", data_dir=data, visual_news=place, cache_dir=data / "cache"
    )
    return made.ids / (time.perf_counter() - started[0])


@click.command()
@click.option("--pictures", default=16_000, show_default=True, help="How many.")
@click.option("--size", type=click.Choice(list(SIZES)), default="l14", show_default=True, help="Of the CLIP.")
@click.option("--device", help="As torch names it.  [default: a GPU if there is one]")
def main(pictures: int, size: str, device: str | None) -> None:
    """Compare embed with the slower of reading and the model, each alone."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    with tempfile.TemporaryDirectory() as place:
        data, model = Path(place, "data"), Path(place, "model")
        make_corpus(data, pictures)
        save_model(model, size)
        encoder = open_encoder(str(model), "pictures", device=device)
        alone = time_model(model, device, encoder.batch)
        noise = np.random.default_rng(0).standard_normal((encoder.batch, encoder.width)).astype(np.float32)
        free = replace(encoder, encode=lambda batch: noise[: len(batch)])
        origin, tar = data / "visual_news" / "origin", data / "pictures.tar"
        rates = {
            "the model alone, on random tensors": alone,
            "reading and decoding alone, folder": time_embed(Path(place, "a"), free, data, origin),
            "reading and decoding alone, tar": time_embed(Path(place, "b"), free, data, tar),
            "embed, folder": time_embed(Path(place, "c"), encoder, data, origin),
            "embed, tar": time_embed(Path(place, "d"), encoder, data, tar),
        }
    click.echo(f"{pictures:,} pictures, CLIP {size}, batches of {encoder.batch}, {name}")
    for what, rate in rates.items():
        kind = what.rpartition(" ")[2]
        slower = min(alone, rates.get(f"reading and decoding alone, {kind}", alone))
        ratio = f", {rate / slower:.2f} of the slower of the two alone" if what.startswith("embed") else ""
        click.echo(f"{what + ':':38}{rate:10,.0f} pictures/s{ratio}")


if __name__ == "__main__":
    main()
