"""Make vectors of pictures: reading, decoding and encoding together, each alone, and as a plain script."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import newsclippings
from benchmarks.contenders.decode import SIDE
from benchmarks.job import Job, Outcome
from newsclippings import Encoder

WAIT = 0.003  # seconds that the waiting model takes for a picture, without the CPU; two cores decode one in about half
WIDTH = 512
SIZE = 32  # pictures of a batch


def _prepare(picture: Image.Image) -> Any:
    """Resize and normalise, as the preprocessors of most models."""
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return np.ascontiguousarray(((pixels / 255 - 0.45) / 0.225).transpose(2, 0, 1))


def _wait(batch: list[Any]) -> Any:
    time.sleep(WAIT * len(batch))
    return np.ones((len(batch), WIDTH), np.float32)


def _waiting() -> Encoder:
    return Encoder("pictures", WIDTH, {"model": "waits"}, _prepare, _wait, side=SIDE, batch=SIZE)


def _efficientnet() -> Encoder:
    from examples.encoders import efficientnet

    return efficientnet("pictures")


def _pictures(job: Job) -> list[tuple[int, str]]:
    """The distinct image_ids of train and their paths, up to the limit, found as a script would."""
    data = job.corpus / "pictures"
    matches = json.loads((data / "news_clippings" / "data" / "merged_balanced" / "train.json").read_bytes())
    ids = sorted({row["image_id"] for row in matches["annotations"]})[: job.limit]
    records = {
        r["id"]: r["image_path"] for r in json.loads((data / "visual_news" / "origin" / "data.json").read_bytes())
    }
    return [(number, str(data / "visual_news" / "origin" / records[number])) for number in ids]


def _embed(job: Job, encoder: Encoder) -> Outcome:
    """Embed the pictures; time from the first picture that is prepared to the end, with writing and checksums."""
    ids = [number for number, _ in _pictures(job)]
    started: list[float] = []

    def prepare(picture: Image.Image) -> Any:
        if not started:
            started.append(time.perf_counter())
        return encoder.prepare(picture)

    made = newsclippings.embed(
        job.out / "vectors", replace(encoder, prepare=prepare), ids=ids, data_dir=job.corpus / "pictures"
    )
    return _outcome(made.ids, time.perf_counter() - started[0])


def _outcome(count: int, seconds: float) -> Outcome:
    return {"rows": count, "seconds": seconds, "note": f"{count / seconds:,.0f} pictures/s"}


def _read(job: Job, encoder: Encoder) -> Outcome:
    """The same, with a model that takes no time."""
    ones = np.ones((encoder.batch, encoder.width), np.float32)
    return _embed(job, replace(encoder, encode=lambda batch: ones[: len(batch)]))


def _encode(job: Job, encoder: Encoder) -> Outcome:
    """The model alone, on prepared noise."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    batch = [encoder.prepare(Image.fromarray(noise))] * encoder.batch
    count = len(_pictures(job))
    encoder.encode(batch)
    start = time.perf_counter()
    for done in range(0, count, len(batch)):
        encoder.encode(batch[: count - done])
    return _outcome(count, time.perf_counter() - start)


def _script(job: Job, encoder: Encoder) -> Outcome:
    """A Dataset, a DataLoader with workers and the model; vectors as .npy by position."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    pictures = _pictures(job)

    class Pictures(Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, k: int) -> Any:
            with Image.open(Path(pictures[k][1])) as picture:
                return torch.as_tensor(encoder.prepare(picture.convert("RGB")))

    start, vectors = time.perf_counter(), []
    for batch in DataLoader(Pictures(), encoder.batch, num_workers=job.workers):
        vectors.append(np.array(encoder.encode(list(batch))))
    np.save(job.out / "vectors.npy", np.concatenate(vectors))
    return _outcome(len(pictures), time.perf_counter() - start)


def _of(way: Callable[[Job, Encoder], Outcome], make: Callable[[], Encoder]) -> Callable[[Job], Outcome]:
    return lambda job: way(job, make())


waiting, waiting_read, waiting_model, waiting_script = (_of(way, _waiting) for way in (_embed, _read, _encode, _script))
network, network_read, network_model, network_script = (
    _of(way, _efficientnet) for way in (_embed, _read, _encode, _script)
)
