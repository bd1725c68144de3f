"""An encoder gives the vectors of its library, says what decides them, and refuses what it must not run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _newsclippings.embed.encoders import open_encoder
from newsclippings import NewsCLIPpingsError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VIEW = {**SMALL, "image_size": 32, "patch_size": 8}
CAPTIONS = [
    "A dam after rain.",
    "Bees",
    "The president of a country that is far away speaks, “at length”, to reporters",
]


def make_pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = [(48, 40), (32, 32), (90, 35)]
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def encode(encoder: Any, items: list[Any], batch: int = 2) -> Any:
    ready = [encoder.prepare(item) for item in items]
    return np.concatenate([encoder.encode(ready[k : k + batch]) for k in range(0, len(ready), batch)])


def save_processor(folder: Path) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return processor


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, saved as its users save theirs."""
    from _newsclippings.train.tiny import byte_tokenizer, tiny_config

    folder = tmp_path_factory.mktemp("models") / "clip"
    torch.manual_seed(0)
    transformers.AutoModel.from_config(tiny_config()).save_pretrained(folder)
    save_processor(folder)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(folder)
    return folder


def save_vit(folder: Path, classifier: bool) -> Path:
    torch.manual_seed(0)
    kind = transformers.ViTForImageClassification if classifier else transformers.ViTModel
    kind(transformers.ViTConfig(**VIEW)).save_pretrained(folder)
    save_processor(folder)
    return folder


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refuse(model: str | Path, of: str, *words: str, **options: Any) -> None:
    """Check that a model is refused, in one line with these words."""
    with pytest.raises(NewsCLIPpingsError) as caught:
        open_encoder(str(model), of, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not [word for word in words if word not in text], text


# transformers


def test_a_clip_gives_the_vectors_of_an_independent_loop(clip: Path) -> None:
    """Pictures and captions of a CLIP equal those of a loop over single items, to 1e-6, in batches of any size."""
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor, tokenizer = save_processor(clip), transformers.AutoTokenizer.from_pretrained(clip)
    with torch.no_grad():
        seen = [model.vision_model(processor(p, return_tensors="pt")["pixel_values"]) for p in make_pictures()]
        pictures = np.concatenate([model.visual_projection(out.pooler_output).numpy() for out in seen])
        read = [model.text_model(**tokenizer(c, return_tensors="pt", truncation=True)) for c in CAPTIONS]
        captions = np.concatenate([model.text_projection(out.pooler_output).numpy() for out in read])
    for of, items, expected in (("pictures", make_pictures(), pictures), ("captions", CAPTIONS, captions)):
        encoder = open_encoder(str(clip), of)
        assert (encoder.of, encoder.width, encoder.several, encoder.normalised) == (of, 16, False, False)
        for batch in (1, 2, 3):
            np.testing.assert_allclose(encode(encoder, items, batch), expected, atol=1e-6)


def test_facts_are_what_decides_the_vectors(clip: Path, tmp_path: Path) -> None:
    """Facts name the model, its weights, preprocessing, versions, device and dtype, and no place of this machine."""
    import hashlib

    digest = hashlib.sha256((clip / "model.safetensors").read_bytes()).hexdigest()
    pictures, captions = (open_encoder(str(clip), of).facts for of in ("pictures", "captions"))
    for facts in (pictures, captions):
        assert facts == json.loads(json.dumps(facts))
        assert facts["model"] == "./clip"
        assert facts["revision"] is None
        assert facts["weights_sha256"] == {"model.safetensors": digest}
        assert (facts["device"], facts["dtype"], facts["pooling"]) == ("cpu", "float32", "projected features")
        assert facts["versions"]["torch"] == torch.__version__
        assert str(clip.parent) not in json.dumps(facts)
    made = pictures["preprocessing"]
    assert made["size"] == {"shortest_edge": 32}
    assert made["image_mean"][0] == pytest.approx(0.4815, abs=1e-3)
    assert (made["resample"], made["processor"]) == (3, "CLIPImageProcessorPil")
    assert captions["max_tokens"] == 77
    assert list(captions["tokenizer_sha256"]) == ["tokenizer.json"]
    moved = copy(clip, tmp_path / "clip")
    assert open_encoder(str(moved), "pictures").facts == pictures
    change_json(moved / "preprocessor_config.json", resample=2)
    assert open_encoder(str(moved), "pictures").facts != pictures


def test_pictures_are_decoded_no_larger_than_needed(clip: Path, tmp_path: Path) -> None:
    """An encoder states the shorter side that its model needs; None where pictures keep their size."""
    assert open_encoder(str(clip), "pictures").side == 32
    assert open_encoder(str(clip), "captions").side is None
    moved = copy(clip, tmp_path / "clip")
    for changes, side in (
        ({"size": {"height": 24, "width": 32}}, 32),
        ({"size": {"shortest_edge": 40}}, 40),
        ({"do_resize": False}, None),
    ):
        change_json(moved / "preprocessor_config.json", **changes)
        assert open_encoder(str(moved), "pictures").side == side


def test_captions_prepared_in_threads_are_the_same(clip: Path) -> None:
    """Many threads may prepare at once."""
    from concurrent.futures import ThreadPoolExecutor

    encoder = open_encoder(str(clip), "captions")
    many = [f"{caption} {k}" for k in range(50) for caption in CAPTIONS]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encoder.prepare, many)) == [encoder.prepare(caption) for caption in many]


def test_a_siglip_pads_all_captions(tmp_path: Path) -> None:
    """SigLIP attends to its padding, so that captions get all tokens, and vectors equal those of its own processor."""
    from _newsclippings.train.tiny import byte_tokenizer

    text = {**SMALL, "vocab_size": 260, "max_position_embeddings": 64, "projection_size": 32, "pad_token_id": 0}
    torch.manual_seed(0)
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VIEW)).eval()
    model.save_pretrained(tmp_path)
    tokenizer = byte_tokenizer()
    tokenizer.model_input_names = ["input_ids"]
    tokenizer.save_pretrained(tmp_path)
    encoder = open_encoder(str(tmp_path), "captions")
    tokens = tokenizer(CAPTIONS, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.text_model(input_ids=tokens["input_ids"]).pooler_output.numpy()
    np.testing.assert_allclose(encode(encoder, CAPTIONS), expected, atol=1e-6)
    assert (encoder.facts["max_tokens"], encoder.facts["padding"]) == (64, "to max_tokens")


@pytest.mark.parametrize("classifier", [False, True])
def test_a_vit_gives_its_pooler_output_or_its_first_token(tmp_path: Path, classifier: bool) -> None:
    """The pooler is used if its weights were saved; a classifier has none, and gets no made-up ones."""
    encoder = open_encoder(str(save_vit(tmp_path, classifier)), "pictures")
    model = transformers.ViTModel.from_pretrained(tmp_path).eval()
    processor = save_processor(tmp_path)
    with torch.no_grad():
        outputs = [model(**processor(picture, return_tensors="pt")) for picture in make_pictures()]
    values = [o.last_hidden_state[:, 0] if classifier else o.pooler_output for o in outputs]
    np.testing.assert_allclose(encode(encoder, make_pictures()), torch.cat(values).numpy(), atol=1e-6)
    assert encoder.facts["pooling"] == ("first token of the last layer" if classifier else "pooler output")
    assert encoder.width == 32


def test_a_dino_and_a_convolutional_network(tmp_path: Path) -> None:
    """Vectors of a DINO are its pooler output, and those of a network without tokens one vector for each picture."""
    dino = transformers.Dinov2Model(transformers.Dinov2Config(**VIEW)).eval()
    net = transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1], layer_type="basic")
    ).eval()
    for name, model, width in (("dino", dino, 32), ("resnet", net, 24)):
        model.save_pretrained(tmp_path / name)
        processor = save_processor(tmp_path / name)
        encoder = open_encoder(str(tmp_path / name), "pictures")
        with torch.no_grad():
            values = [model(**processor(p, return_tensors="pt")).pooler_output.flatten(1) for p in make_pictures()]
        assert encoder.width == width
        np.testing.assert_allclose(encode(encoder, make_pictures()), torch.cat(values).numpy(), atol=1e-6)


def test_the_wrong_side_is_refused(clip: Path, tmp_path: Path) -> None:
    """Captions of a ViT and pictures of a model of sentences are refused, before weights are read."""
    vit = save_vit(tmp_path / "vit", classifier=False)
    (vit / "model.safetensors").write_bytes(b"")
    refuse(vit, "captions", "no vectors of captions", "st:./vit")
    bert = tmp_path / "bert"
    bert.mkdir()
    transformers.BertConfig(**SMALL).save_pretrained(bert)
    (bert / "model.safetensors").write_bytes(b"")
    refuse(bert, "pictures", "no vectors of pictures")
    refuse(clip, "images", "expected pictures or captions")


def test_weights_are_read_from_safetensors_only(clip: Path, tmp_path: Path) -> None:
    """Weights that could be programs are not opened, and the way out is named."""
    moved = copy(clip, tmp_path / "clip")
    (moved / "model.safetensors").rename(moved / "pytorch_model.bin")
    refuse(moved, "pictures", "no model.safetensors", "contain programs", "save_pretrained")
    (moved / "pytorch_model.bin").unlink()
    refuse(moved, "pictures", "no model.safetensors")
    (moved / "model.safetensors").write_bytes(b"no weights")
    refuse(moved, "pictures", "cannot be loaded")
    (moved / "model.safetensors").unlink()
    (moved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    refuse(moved, "pictures", "expected names of safetensors files")


def test_weights_in_parts_are_all_identified(clip: Path, tmp_path: Path) -> None:
    """A model in several files gives the same vectors, and the digest of each file."""
    from safetensors.torch import load_file, save_file

    moved = copy(clip, tmp_path / "clip")
    tensors = load_file(moved / "model.safetensors")
    (moved / "model.safetensors").unlink()
    names, index = sorted(tensors), dict[str, str]()
    for k in range(2):
        file = f"model-0000{k + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[k::2]}, moved / file, {"format": "pt"})
        index |= dict.fromkeys(names[k::2], file)
    (moved / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    encoder = open_encoder(str(moved), "captions")
    assert sorted(encoder.facts["weights_sha256"]) == sorted(set(index.values()))
    whole = open_encoder(str(clip), "captions")
    np.testing.assert_allclose(encode(encoder, CAPTIONS), encode(whole, CAPTIONS), atol=1e-6)


def test_weights_of_another_model_are_refused(clip: Path, tmp_path: Path) -> None:
    """A model whose weights lack tensors is refused: transformers would make them up."""
    from safetensors.torch import load_file, save_file

    moved = copy(clip, tmp_path / "clip")
    tensors = load_file(moved / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    refuse(moved, "pictures", "lack 1 of", "visual_projection.weight")


def test_code_of_a_model_is_never_run(clip: Path, tmp_path: Path) -> None:
    """Remote code, kernels, quantised weights and adapters are refused."""
    evil = tmp_path / "clip"
    shutil.copytree(clip, evil)
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    config = (evil / "config.json").read_text()
    change_json(evil / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    refuse(evil, "pictures", "without code from elsewhere")
    (evil / "config.json").write_text(config)
    change_json(evil / "config.json", attn_implementation="someone/kernel")
    refuse(evil, "pictures", "attn_implementation", "never fetched")
    (evil / "config.json").write_text(config)
    change_json(evil / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    refuse(evil, "pictures", "quantization_config")
    (evil / "config.json").write_text(config)
    change_json(evil / "preprocessor_config.json", image_processor_type="E", auto_map={"AutoImageProcessor": "evil.E"})
    refuse(evil, "pictures", "preprocessor_config.json that cannot be used")
    change_json(evil / "tokenizer_config.json", tokenizer_class="E", auto_map={"AutoTokenizer": ["evil.E", None]})
    (evil / "tokenizer.json").write_text("{")
    refuse(evil, "captions", "tokenizer that cannot be used")
    (evil / "adapter_config.json").write_text("{}")
    refuse(evil, "captions", "adapter")
    assert not (tmp_path / "ran").exists()


def test_a_part_that_is_missing_is_named(clip: Path, tmp_path: Path) -> None:
    """Without a tokenizer, a preprocessor_config.json or a folder, the error says what to add."""
    moved = copy(clip, tmp_path / "clip")
    (moved / "tokenizer.json").unlink()
    (moved / "preprocessor_config.json").unlink()
    refuse(moved, "captions", "no tokenizer")
    refuse(moved, "pictures", "no preprocessor_config.json")
    refuse(tmp_path / "nowhere", "pictures", "expected a folder")
    refuse("./clip", "pictures", "expected a folder")
    (moved / "config.json").unlink()
    refuse(moved, "pictures", "config.json does not exist")


def test_a_tokenizer_of_another_model_is_refused(clip: Path, tmp_path: Path) -> None:
    """Tokens for which the model has no vector are found before anything is encoded."""
    moved = copy(clip, tmp_path / "clip")
    tokens = json.loads((moved / "tokenizer.json").read_text())
    tokens["model"]["vocab"]["unheard"] = 1000
    (moved / "tokenizer.json").write_text(json.dumps(tokens))
    refuse(moved, "captions", "tokenizer of the model's 260 tokens", "1,000")


def test_devices(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the CPU is used, also under torchrun; a device that is not there is refused."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert open_encoder(str(clip), "captions", device="cpu").facts["device"] == "cpu"
    refuse(clip, "captions", "device='toaster'", device="toaster")
    if not torch.cuda.is_available():
        assert open_encoder(str(clip), "captions").facts["device"] == "cpu"
        refuse(clip, "captions", "device='cuda'", "cpu", device="cuda")


# The Hub


def test_a_model_of_the_hub(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is fetched at a commit, which the facts name; its files of other formats stay where they are."""
    import huggingface_hub

    asked = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "pytorch_model.bin" not in allow_patterns
        return str(copy(clip, tmp_path / str(len(asked)) / ("c0ffee" if revision else "abcdef")))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoder = open_encoder("someone/clip", "captions")
    assert (encoder.facts["model"], encoder.facts["revision"]) == ("someone/clip", "abcdef")
    assert open_encoder("someone/clip@v2", "captions").facts["revision"] == "c0ffee"
    assert asked == [("someone/clip", None), ("someone/clip", "v2")]


def test_a_model_of_the_hub_without_safetensors(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only the Hub's own robot offers safetensors, as for the authors' CLIP, its revision is taken."""
    from types import SimpleNamespace

    import huggingface_hub

    bare = copy(clip, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    offers = [
        SimpleNamespace(author=author, title="Adding `safetensors` variant of this model", git_reference=f"refs/pr/{k}")
        for k, author in enumerate(("stranger", "SFconvertbot"))
    ]
    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", lambda *_, **__: iter(offers))
    places = {None: str(bare), "refs/pr/1": str(clip)}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, revision, allow_patterns: places[revision])
    assert open_encoder("someone/clip", "captions").facts["revision"] == "clip"
    offers.pop()
    refuse("someone/clip", "captions", "no model.safetensors", "refs/pr/NUMBER")


def test_a_model_that_cannot_be_fetched() -> None:
    """Offline, a name that is no folder is an error that says both."""
    refuse("someone/clip", "pictures", "no folder someone/clip", "could not be fetched")
    refuse("a b", "pictures", "Check the spelling")


# Names


def test_unknown_libraries_are_named() -> None:
    """A prefix that is not known is refused with the known ones."""
    refuse("onx:folder", "captions", "st:, open_clip:, onnx:, py:", "'onnx'?")


@pytest.mark.parametrize(
    ("model", "module", "install"),
    [
        ("clip", "transformers", 'pip install "newsclippings[embed]"'),
        ("st:all-MiniLM-L6-v2", "sentence_transformers", "pip install sentence-transformers"),
        ("open_clip:ViT-B-32/openai", "open_clip", "pip install open_clip_torch"),
        ("onnx:folder", "onnxruntime", "pip install onnxruntime tokenizers"),
    ],
)
def test_a_missing_library_is_named(model: str, module: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its library, an encoder says which package to install."""
    from importlib import util

    from _newsclippings.embed import libraries

    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == module else util.find_spec("json"))
    refuse(model, "captions", module, install)


# A user's own

MINE = """
import numpy as np
from _newsclippings.embed import Encoder

def mean_colour(pictures):
    return np.stack([np.asarray(picture.convert("RGB"), np.float64).mean((0, 1)) for picture in pictures])

def lengths(captions):
    return [[len(caption), caption.count(" ")] for caption in captions]

def tensors(captions):
    import torch
    return torch.tensor([[len(caption)] for caption in captions], dtype=torch.bfloat16)

def words(captions):
    return [np.array([[len(word), 1] for word in caption.split()], np.float32).reshape(-1, 2) for caption in captions]

def encoder(of):
    return Encoder(of, 1, {"seed": 1}, len, lambda items: np.array(items, np.float32)[:, None], batch=7)

def placed(of, device):
    return Encoder(of, 1, {"device": device}, len, lambda items: np.array(items, np.float32)[:, None])

ready = encoder("captions")
upper = str.upper
constant = 3
def mirror(picture): return picture.transpose(0)
def broken(items): raise RuntimeError("no\\nmodel")
def none(items): return None
def short(items): return np.zeros((len(items) + 1, 2))
def texts(items): return items
def noise(items): return np.random.rand(len(items), 2)
def growing(items): return np.zeros((len(items), len(items)))
def wrong_of(of): return Encoder("captions", 1, {}, len, len)
def wrong_width(of): return Encoder(of, 0, {}, len, len)
def wrong_facts(of): return Encoder(of, 1, {"a": {1}}, len, len)
def wrong_batch(of): return Encoder(of, 1, {}, len, len, batch=0)
def wrong_return(of): return of
def wrong_picture(item): return None
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current folder."""
    Path("mine.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return Path("mine.py")


@pytest.mark.parametrize(
    ("name", "of", "expected"),
    [
        ("mean_colour", "pictures", None),
        ("lengths", "captions", [[len(c), c.count(" ")] for c in CAPTIONS]),
        ("tensors", "captions", [[len(c)] for c in CAPTIONS]),
        ("encoder", "captions", [[len(c)] for c in CAPTIONS]),
        ("ready", "captions", [[len(c)] for c in CAPTIONS]),
        ("placed", "captions", [[len(c)] for c in CAPTIONS]),
    ],
)
def test_functions_and_encoders_of_ones_own(mine: Path, name: str, of: str, expected: Any) -> None:
    """A function of a list, a function that returns an Encoder, and an Encoder are all taken."""
    encoder = open_encoder(f"py:mine:{name}", of, device="cpu" if name == "placed" else None)
    items: list[Any] = make_pictures() if of == "pictures" else CAPTIONS
    vectors = encode(encoder, items)
    if expected is None:
        expected = [np.asarray(picture).mean((0, 1)) for picture in items]
    np.testing.assert_allclose(vectors, expected, rtol=0.1 if name == "tensors" else 1e-6)
    assert vectors.dtype == np.float32
    assert (encoder.width, encoder.side, encoder.several) == (len(expected[0]), None, False)
    assert encoder.facts["model"] == f"py:mine:{name}"
    before = encoder.facts["source_sha256"]
    mine.write_text(MINE + "\n")
    assert open_encoder(f"py:mine:{name}", of).facts["source_sha256"] != before


def test_any_number_of_vectors_for_an_item(mine: Path) -> None:
    """A function may return any number of vectors for an item, also none."""
    encoder = open_encoder("py:mine:words", "captions")
    assert (encoder.several, encoder.width) == (True, 2)
    vectors = encoder.encode([encoder.prepare(caption) for caption in ["two words", "", "one"]])
    assert [value.shape for value in vectors] == [(2, 2), (0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "mine has no nothing"),
        ("constant", "neither a function nor an Encoder"),
        ("broken", "RuntimeError: no model"),
        ("none", "expected an array (N, width)"),
        ("short", "for 1 items"),
        ("texts", "expected an array (N, width)"),
        ("noise", "other vectors each time"),
        ("wrong_of", "encodes 'captions', and not pictures"),
        ("wrong_width", "wrong width"),
        ("wrong_facts", "wrong facts"),
        ("wrong_batch", "wrong batch"),
        ("wrong_return", "returns an Encoder, and not 'pictures'"),
    ],
)
def test_wrong_functions_are_refused(mine: Path, name: str, words: str) -> None:
    """What a function returns is checked on a blank picture."""
    refuse(f"py:mine:{name}", "pictures", words)


def test_wrong_vectors_of_a_batch_are_refused(mine: Path) -> None:
    """Every batch is checked, since the trial is only one item."""
    encoder = open_encoder("py:mine:growing", "captions")
    with pytest.raises(NewsCLIPpingsError, match="expected vectors of 1 numbers"):
        encoder.encode(CAPTIONS)


def test_modules_that_do_not_exist_or_fail() -> None:
    """The error names the module, and what it raised."""
    refuse("py:nowhere:f", "captions", "The module nowhere of nowhere:f cannot be imported. Check the name")
    refuse("py:f", "captions", "expected MODULE:FUNCTION")
    Path("failing.py").write_text("import a_library_that_is_not_there\n")
    refuse("py:failing:f", "captions", "No module named 'a_library_that_is_not_there'")


def test_augmentations(clip: Path, mine: Path) -> None:
    """A user's function changes each item before it is encoded, and the facts name it and its file."""
    plain, changed = (open_encoder(str(clip), "pictures", augment=name) for name in (None, "mine:mirror"))
    mirrored = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in make_pictures()]
    np.testing.assert_array_equal(encode(changed, make_pictures()), encode(plain, mirrored))
    assert (plain.side, changed.side) == (32, None)
    assert changed.facts["augment"] == "mine:mirror"
    assert len(changed.facts["augment_sha256"]) == 64
    loud = open_encoder("py:mine:lengths", "captions", augment="mine:upper")
    assert loud.prepare("Bees") == "BEES"
    wrong = open_encoder(str(clip), "pictures", augment="mine:wrong_picture")
    with pytest.raises(NewsCLIPpingsError, match="expected a PIL picture, found None"):
        wrong.prepare(make_pictures()[0])
    refuse(clip, "pictures", "no function", augment="mine:constant")
