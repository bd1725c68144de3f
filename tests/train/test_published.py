"""`--weights` reads a checkpoint of MMF with OpenAI's CLIP and the authors' head; files of other forms are refused.

The authors' files were never opened here. These have the form that their code and MMF's write: the parameters of an
independent CLIP with OpenAI's names.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.learnable import write_world
from support.remote import Origin

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from torch import nn  # noqa: E402

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, published  # noqa: E402
from _newsclippings.train.collate import Collator  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402
from _newsclippings.train.tiny import byte_tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

WIDTH, TEXT_WIDTH, JOINT, TOKENS, VOCABULARY, SIDE, PATCH = 128, 64, 24, 77, 260, 32, 8


class Block(nn.Module):  # type: ignore[misc]
    """A block of OpenAI's transformers: attention and MLP, each after a norm, with QuickGELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Any, mask: Any) -> Any:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Transformer(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))

    def forward(self, x: Any, mask: Any = None) -> Any:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Transformer(WIDTH, 2)
        self.proj = nn.Parameter(torch.randn(WIDTH, JOINT))

    def forward(self, pixels: Any) -> Any:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Layers(nn.Module):  # type: ignore[misc]
    """The head of MMF: Linear, ReLU and Dropout for each hidden layer, and the last Linear."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Linear(2 * JOINT, 16), nn.ReLU(), nn.Dropout(0)]
        self.layers = nn.ModuleList([*first, nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0), nn.Linear(16, 2)])


class TheirModel(nn.Module):  # type: ignore[misc]
    """The authors' model, by the names of OpenAI's CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.transformer = Visual(), Transformer(TEXT_WIDTH, 3)
        self.token_embedding = nn.Embedding(VOCABULARY, TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(TOKENS, TEXT_WIDTH))
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, JOINT))
        self.logit_scale = nn.Parameter(torch.tensor(2.6))
        self.classifier = Layers()

    def forward(self, ids: Any, pixels: Any) -> Any:
        mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding, mask)
        text = self.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection
        image = self.visual(pixels)
        x = torch.cat([each / each.norm(dim=-1, keepdim=True) for each in (text, image)], -1)
        for layer in self.classifier.layers:
            x = layer(x)
        return x


def make_checkpoint() -> tuple[TheirModel, dict[str, Any]]:
    torch.manual_seed(0)
    model = TheirModel()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    rest = {"optimizer": {"state": {}, "param_groups": [{"lr": 5e-5}]}, "best_update": 9_000, "num_updates": 22_000}
    return model, {"model": state, **rest, "config": {"model": "clip", "training": {"batch_size": 16}}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a tokenizer whose end is the last token, as CLIP's, and a checkpoint."""
    root = tmp_path_factory.mktemp("published")
    write_world(root / "data", learnable=True, pairs={"train": 2, "val": 2, "test": 4})
    tokenizer = byte_tokenizer()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    turned = {VOCABULARY - 1 - number: token for token, number in state["model"]["vocab"].items()}
    state["model"]["vocab"] = {turned[number]: number for number in range(VOCABULARY)}
    for special in state["added_tokens"]:
        special["id"] = VOCABULARY - 1 - special["id"]
    for name, token in state["post_processor"]["special_tokens"].items():
        token["ids"] = [state["model"]["vocab"][name]]
    # <eos> is 256 here, and must be the largest: exchange it with <pad>, 259
    text = json.dumps(state).replace('"<pad>"', '"<X>"').replace('"<eos>"', '"<pad>"').replace('"<X>"', '"<eos>"')
    (root / "clip").mkdir()
    (root / "clip" / "tokenizer.json").write_text(text)
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>"}
    (root / "clip" / "tokenizer_config.json").write_text(json.dumps({**kind, "bos_token": "<bos>"}))
    torch.save(make_checkpoint()[1], root / "best.ckpt")
    return root


@pytest.fixture(autouse=True)
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


def measure(scene: Path, weights: object, out: str) -> list[dict[str, Any]]:
    more = ["--model", str(scene / "clip"), "--data_dir", str(scene / "data"), "--output_dir", out, "--use_cpu"]
    training.main(["--eval_only", "--weights", str(weights), *more])
    return [json.loads(line) for line in Path(out, "predictions.jsonl").read_text().splitlines()]


def test_predictions_are_those_of_the_model_that_was_saved(scene: Path) -> None:
    """The logits of every row are those of an independent CLIP, with the recipe's pixels and tokens."""
    theirs, _ = make_checkpoint()
    theirs.eval()
    rows = measure(scene, scene / "best.ckpt", "out")
    assert len(rows) == 8
    found, _ = published.load_classifier(str(scene / "best.ckpt"), str(scene / "clip"))
    assert len(found.head) == 5
    options = parse(["--data_dir", str(scene / "data"), "--use_cpu"])[0]
    collator = Collator(found.options, found.processor, found.widths)
    batch = collator([training.load_rows(options, "test", 0, 0, 1)[0][k] for k in range(8)])
    ids = batch["input_ids"]
    assert (ids.argmax(-1) == (ids == VOCABULARY - 1).int().argmax(-1)).all()
    with torch.no_grad():
        expected = theirs(ids, batch["pixel_values"])
    assert torch.allclose(torch.tensor([row["logits"] for row in rows]), expected, atol=1e-4)
    assert expected.std() > 0.1
    assert Path("out/report.md").read_text().startswith("# merged_balanced, best.ckpt\n")


def test_weights_at_a_url_and_without_their_wrapping(scene: Path, tmp_path: Path, origin: Origin) -> None:
    """A file at a URL, and one that is only the parameters, as MMF's last file is, give the same."""
    here = measure(scene, scene / "best.ckpt", "here")
    torch.save(make_checkpoint()[1]["model"], tmp_path / "clip_final.pth")
    served = origin.root / "published.ckpt"
    shutil.copyfile(scene / "best.ckpt", served)
    assert measure(scene, origin.url(served), "there") == here
    assert measure(scene, tmp_path / "clip_final.pth", "bare") == here


class Program:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("executed",)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        content = make_checkpoint()[1]
        change(content)
        torch.save(content, place)

    return write


def compressed(place: Path) -> None:
    torch.save(make_checkpoint()[1], place)
    with zipfile.ZipFile(place) as source, zipfile.ZipFile(f"{place}.2", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    os.replace(f"{place}.2", place)


def truncated(place: Path) -> None:
    torch.save(make_checkpoint()[1], place)
    os.truncate(place, place.stat().st_size // 2)


BLOCK = "model.visual.transformer.resblocks.0.attn.in_proj_weight"
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a program": (changed(lambda c: c.update(config=Program())), "Weights only load failed"),
    "text": (lambda place: place.write_text("version https://git-lfs"), "BadZipFile"),
    "truncated": (truncated, "BadZipFile"),
    "compressed": (compressed, "an archive that decompresses to more"),
    "a list": (lambda place: torch.save([1], place), "found list"),
    "no tensors": (changed(lambda c: c["model"].update({BLOCK: "x"})), f"found {BLOCK}: str"),
    "another head": (changed(lambda c: c["model"].pop("model.classifier.layers.0.weight")), "classifier.layers.0."),
    "a ResNet": (changed(lambda c: c["model"].pop("model.visual.positional_embedding")), "visual.positional_embedding"),
    "a tensor more": (changed(lambda c: c["model"].update({"model.x": torch.ones(2)})), "found x"),
    "a tensor less": (changed(lambda c: c["model"].pop(BLOCK)), "k_proj.weight of shape [128, 128], found none"),
    "other shapes": (changed(lambda c: c["model"].update({BLOCK: torch.ones(9, 3)})), "found [3, 3]"),
    "integers": (changed(lambda c: c["model"].update({BLOCK: torch.ones(384, 128, dtype=torch.int8)})), "torch.int8"),
    "too many layers": (
        changed(lambda c: c["model"].update({"model.transformer.resblocks.999.ln_1.bias": torch.ones(64)})),
        "expected weights of OpenAI's CLIP",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_other_forms_are_refused(scene: Path, tmp_path: Path, what: str) -> None:
    """A file of another form is an error in one line that names the file, and nothing in it is executed."""
    write, says = OTHERS[what]
    write(tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match=r"^[^\n]*weights\.ckpt: expected") as error:
        measure(scene, tmp_path / "weights.ckpt", "out")
    assert says in str(error.value)
    assert not Path("executed").exists()
    assert not Path("out").exists()


def test_a_huge_model_in_a_small_file(scene: Path, tmp_path: Path) -> None:
    """Tensors that claim a size which their file has not are refused before memory is allocated for them."""
    content = make_checkpoint()[1]
    content["model"]["model.token_embedding.weight"] = torch.zeros(1, dtype=torch.float16).expand(1 << 36, TEXT_WIDTH)
    content["model"]["model.text_projection"] = torch.zeros(1).expand(TEXT_WIDTH, 1 << 36)
    torch.save(content, tmp_path / "weights.ckpt")
    assert (tmp_path / "weights.ckpt").stat().st_size < 1 << 23
    with pytest.raises(ValueError, match=r"weights\.ckpt: expected"):
        measure(scene, tmp_path / "weights.ckpt", "out")


def test_weights_that_are_not_there(scene: Path) -> None:
    """A missing file, or a folder, is an error that says what to pass."""
    with pytest.raises(ValueError, match="--weights needs --output_dir, a folder for the report"):
        training.main(["--eval_only", "--weights", "x", "--use_cpu"])
    for place in ("nowhere.ckpt", str(scene)):
        with pytest.raises(ValueError, match=r"expected a file of weights, found no file\. Pass the file in it"):
            measure(scene, place, "out")
