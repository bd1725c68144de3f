"""Models of sentence-transformers and open_clip, made small, give the vectors of their own libraries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _newsclippings.embed import open_encoder
from newsclippings import NewsCLIPpingsError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

CAPTIONS = ["A dam after rain.", "Bees", "The president of a country that is far away speaks to reporters"]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of sentences with random weights, whose vectors are means of tokens, normalised."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    from _newsclippings.train.tiny import byte_tokenizer

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.BertModel(transformers.BertConfig(vocab_size=260, **small)).save_pretrained(folder / "bert")
    byte_tokenizer().save_pretrained(folder / "bert")
    words = modules.Transformer(str(folder / "bert"), max_seq_length=40)
    parts = [words, modules.Pooling(32, pooling_mode="mean"), modules.Normalize()]
    library.SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_a_model_of_sentences(sentences: Path) -> None:
    """Vectors equal the library's own, and facts state modules, pooling and tokens."""
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(sentences), device="cpu").encode(CAPTIONS)
    encoder = open_encoder(f"st:{sentences}", "captions")
    np.testing.assert_allclose(encoder.encode([encoder.prepare(c) for c in CAPTIONS]), expected, atol=1e-6)
    assert (encoder.width, encoder.normalised) == (32, True)
    assert encoder.facts["modules"] == ["Transformer", "Pooling", "Normalize"]
    assert encoder.facts["pooling"][0]["pooling_mode"] == "mean"
    assert (encoder.facts["max_tokens"], encoder.facts["model"]) == (40, "st:./model")
    assert list(encoder.facts["weights_sha256"]) == ["model.safetensors"]


def test_models_of_sentences_that_are_refused(sentences: Path, tmp_path: Path) -> None:
    """Pictures, modules of its own and pickles are refused."""
    folder = tmp_path / "model"
    shutil.copytree(sentences, folder)

    def refuse(of: str, words: str) -> None:
        with pytest.raises(NewsCLIPpingsError, match=words):
            open_encoder(f"st:{folder}", of)

    refuse("pictures", "no vectors of pictures")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "os.system", "path": "3"}]))
    refuse("captions", r"module of its own \(os.system")
    (folder / "modules.json").write_text(json.dumps([{**modules[0], "path": "../bert"}]))
    refuse("captions", "never run")
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refuse("captions", "can contain programs")


TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny architecture that open_clip is told about."""
    try:
        import open_clip
    except Exception as error:  # it needs torchvision, which may not fit the installed torch
        pytest.skip(f"open_clip cannot be imported: {error}")
    from safetensors.torch import save_model

    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny.json")
    torch.manual_seed(0)
    save_model(open_clip.create_model("tiny"), str(folder / "tiny.safetensors"))
    return folder / "tiny.safetensors"


def test_open_clip(weights: Path) -> None:
    """Pictures and captions equal those of the library's own loop."""
    import open_clip
    from PIL import Image

    model, transform = open_clip.create_model_from_pretrained("tiny", pretrained=str(weights))
    model.eval()
    picture: Any = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    with torch.no_grad():
        expected = {
            "pictures": model.encode_image(transform(picture)[None]).numpy(),
            "captions": model.encode_text(open_clip.get_tokenizer("tiny")(CAPTIONS)).numpy(),
        }
    for of, items in (("pictures", [picture]), ("captions", CAPTIONS)):
        encoder = open_encoder(f"open_clip:tiny/{weights}", of)
        np.testing.assert_allclose(encoder.encode([encoder.prepare(i) for i in items]), expected[of], atol=1e-6)
        assert (encoder.width, encoder.side) == (16, 32 if of == "pictures" else None)
        assert encoder.facts["model"] == "open_clip:tiny/./tiny.safetensors"
        assert list(encoder.facts["weights_sha256"]) == ["tiny.safetensors"]


def test_open_clip_that_is_refused(weights: Path, tmp_path: Path) -> None:
    """An unknown architecture, unknown weights and pickles are refused."""
    pickle = tmp_path / "tiny.pt"
    pickle.write_bytes(b"")
    for model, words in (
        ("ViT-B-33/openai", "no model ViT-B-33"),
        ("ViT-B-32/openay", "no weights openay.*Did you mean 'openai'"),
        ("ViT-B-32", "no weights .none given."),
        (f"tiny/{pickle}", "never read"),
    ):
        with pytest.raises(NewsCLIPpingsError, match=words):
            open_encoder(f"open_clip:{model}", "captions")
