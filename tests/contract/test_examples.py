"""The examples run, and each is short."""

from __future__ import annotations

import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forking import run_module
from support.reading import PACKAGE
from support.world import World

from _newsclippings.evaluate import MEASURES

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

EXAMPLES = sorted((PACKAGE / "examples").glob("[!_]*.py"))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(PACKAGE / "examples" / f"{name}.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_is_short_and_documented(file: Path) -> None:
    """Each example has fewer than 60 lines, and a page of the documentation names it."""
    assert len(file.read_text().splitlines()) < 60
    if file.stem not in ("demo", "demo_embed"):  # `make demo`, `make demo-embed`
        pages = [PACKAGE / "README.md", *(PACKAGE / "docs").rglob("*.md")]
        assert any(f"examples/{file.name}" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_loop(world: World, workers: int) -> None:
    """The torch loop runs, with and without workers."""
    assert 0 <= example("torch_loop")["main"](str(world.root), epochs=1, workers=workers) <= 1


def test_lightning(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning trains on rows of a DataLoader."""
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    assert 0 < example("lightning_module")["main"](str(world.root), epochs=1) < 5


def test_sentence_pairs(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sentence-transformers trains a random CLIP on captions and pictures."""
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    save_clip(tmp_path / "clip")
    assert 0 < example("sentence_pairs")["main"](str(tmp_path / "clip"), str(world.root), steps=1) < 5


def test_chat(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TRL trains a random LLaVA on chats with pictures."""
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    save_llava(tmp_path / "llava")
    assert 0 < example("chat")["main"](str(tmp_path / "llava"), str(world.root), steps=1) < 20


def save_llava(folder: Path) -> None:
    """Save a LLaVA of random weights for pictures of 32 x 32 pixels, with its processor and a chat template."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    from _newsclippings.train.tiny import byte_tokenizer

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=8)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    text = LlamaConfig(**small, **special, vocab_size=len(tokenizer), max_position_embeddings=2048)
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, image_seq_length=16)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    part = "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    template = (
        "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
        f"{part}{{% endfor %}}\n{{% endfor %}}"
    )
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """Save a CLIP of random weights for pictures of 32 x 32 pixels, with its processor."""
    from transformers import AutoModel, CLIPImageProcessor, CLIPProcessor

    from _newsclippings.train.tiny import byte_tokenizer, tiny_config

    torch.manual_seed(0)
    AutoModel.from_config(tiny_config()).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 77
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)


def test_zero_shot(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A random CLIP, loaded from a folder, is right about half of the time."""
    save_clip(tmp_path / "clip")
    accuracy = example("zero_shot")["main"](str(tmp_path / "clip"), str(world.root))
    assert 0.2 <= accuracy <= 0.8
    assert "of the pairs" in capsys.readouterr().out


def test_trainer(world: World) -> None:
    """The trainer of transformers reports all measures of `compute_metrics` at an evaluation."""
    found = example("trainer")["main"](str(world.root))
    assert found["eval_accuracy"] > 0.5
    assert {f"eval_{name}" for name in MEASURES} <= {*found}


def test_finetune_on_the_sample(tmp_path: Path) -> None:
    """Fine-tuning takes less than a minute from an empty folder to predictions."""

    def before() -> None:
        sys.path.insert(0, str(PACKAGE))
        signal.alarm(60)

    done = run_module("examples.finetune", [], tmp_path, before=before)
    assert done.code == 0, done.err[-2000:]
    assert "| accuracy |" in done.out
    assert (tmp_path / "demo/run/roc.png").is_file()


def test_nearest_pictures(world: World) -> None:
    """The page of `make demo-embed` shows each caption with its nearest pictures, its own in a frame, as text only."""
    from datasets import Image, load_dataset

    rows = load_dataset("newsclippings", "merged_balanced", data_dir=str(world.root), split="train")
    rows = rows.cast_column("image", Image(decode=False)).select(range(0, 6, 2))
    rows = [{**row, "caption": f"<b>{row['id']}"} for row in rows]
    captions = [[2.0, 0], [0, 1], [1, 0.2]]
    scores, order = example("demo_embed")["rank"](np.array(captions), np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]]))
    assert order.tolist() == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]
    page = example("nearest_page")["draw"](rows, scores, order, "59 %")
    assert page.count("<figure") == 9
    assert page.count("its own") == 3
    assert "59 %" in page
    assert "<b>" not in page.replace("<b>The encoder", "")
