"""Read the weights that the authors published: a checkpoint of MMF, which has OpenAI's CLIP and the head.

Their form is known from the authors' code and from MMF's, not from the files, which were never opened here. A file of
another form is refused. No other flag than --weights reads checkpoints of torch.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

from _newsclippings.storage import fetch_into, is_url
from _newsclippings.train.model import Classifier, make_config, make_processor
from _newsclippings.train.options import Options
from _newsclippings.train.untrusted import (
    build_module,
    call_safely,
    check_shapes,
    check_tokens,
    load_numbers,
    make_error,
    read_tokenizer,
)

EXPECTED: Final = "weights of OpenAI's CLIP (a ViT) and of the authors' head, as MMF saves them"
LARGEST: Final = 8 << 30  # bytes; ViT-B/32 with the state of AdamW has 1.8e9
HEAD_UNITS: Final = 64  # of an attention head, in all of OpenAI's CLIPs
BUFFERS: Final = {"input_resolution", "context_length", "vocab_size"}  # of CLIPs that OpenAI saved, not trained
TOP: Final = {  # name in OpenAI's CLIP -> name in `transformers`; matrices in TRANSPOSED are the other way round
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
TRANSPOSED: Final = {"visual.proj", "text_projection"}
NORMS: Final = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
IN_BLOCK: Final = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK: Final = re.compile(r"(visual\.)?transformer\.resblocks\.(\d{1,3})\.([\w.]+)\.(\w+)")
CLASSIFIER: Final = re.compile(r"classifier\.layers\.(\d{1,3})\.(weight|bias)")

Tensors = dict[str, torch.Tensor]


def load_classifier(location: str, tokenizer_place: str) -> tuple[Classifier, Any]:
    """Load a classifier from published weights, and its tokenizer.

    Args:
        location: of the file, or its URL.
        tokenizer_place: folder or Hub repository of CLIP's tokenizer.

    Raises:
        ValueError: the file or the tokenizer has another form than expected.
    """
    with _local_file(location) as file:
        tensors = _read_tensors(file, location)
        options, config = _read_sizes(location, tensors)
        found = dict(_translate(location, tensors))
        shapes = {name: list(value.shape) for name, value in found.items()}

        def make_it() -> Classifier:
            return Classifier(make_config(options, config.to_dict()), CLIPModel(config), options)

        model = build_module(location, make_it, check_shapes(location, shapes, EXPECTED))
        call_safely(location, EXPECTED, lambda: model.load_state_dict(found))
    folder = Path(tokenizer_place)
    if folder.is_dir():
        tokenizer = read_tokenizer(folder, "clip")
    else:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_place, trust_remote_code=False)
    check_tokens(tokenizer_place, tokenizer, config.text_config.vocab_size)
    model.processor = make_processor(model, tokenizer)
    return model, tokenizer


@contextmanager
def _local_file(location: str) -> Iterator[Path]:
    """Give the path of a file, which is first copied if it is at a URL."""
    if not is_url(location):
        if not Path(location).is_file():
            raise make_error(location, "a file of weights", "no file", "Pass the file in it, or its URL.")
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="newsclippings-") as folder:
        copy = Path(folder, "weights")
        with copy.open("wb") as sink:
            fetch_into(location, sink, LARGEST)
        yield copy


def _read_tensors(file: Path, location: str) -> Tensors:
    """Read the tensors of CLIP and the head by their names in the authors' model."""
    saved = load_numbers(file, location, EXPECTED)
    state = saved.get("model", saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise make_error(location, EXPECTED, type(saved).__name__ if state is None else "no tensors in it")
    tensors: Tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise make_error(location, EXPECTED, f"{name}: {type(value).__name__}")
        own = name.removeprefix("module.").removeprefix("model.")
        if own not in BUFFERS:
            if not value.is_floating_point() or value.is_sparse or own in tensors:
                raise make_error(location, EXPECTED, f"{name} of {value.dtype}, {value.layout}, or twice")
            tensors[own] = value
    return tensors


def _read_sizes(location: str, tensors: Mapping[str, torch.Tensor]) -> tuple[Options, CLIPConfig]:
    """Find the sizes of a model from the shapes of its tensors."""

    def sizes(name: str, axes: int) -> list[int]:
        if name not in tensors:
            raise make_error(location, f"{EXPECTED}, with {name}", f"{len(tensors):,} tensors without it")
        shape = list(tensors[name].shape)
        if len(shape) != axes:
            raise make_error(location, f"{name} with {axes} axes", shape)
        return shape

    def count(pattern: str) -> int:
        found = {int(number[1]) for name in tensors if (number := re.match(pattern, name))}
        return max(found, default=-1) + 1

    width, _, patch, _ = sizes("visual.conv1.weight", 4)
    places = sizes("visual.positional_embedding", 2)[0] - 1
    vocabulary, text_width = sizes("token_embedding.weight", 2)
    hidden = sizes("classifier.layers.0.weight", 2)[0]
    vision = {
        "hidden_size": width,
        "intermediate_size": sizes("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": count(r"visual\.transformer\.resblocks\.(\d{1,3})\."),
        "num_attention_heads": max(1, width // HEAD_UNITS),
        "patch_size": patch,
        "image_size": round(places**0.5) * patch,
    }
    text = {
        "hidden_size": text_width,
        "intermediate_size": sizes("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": count(r"transformer\.resblocks\.(\d{1,3})\."),
        "num_attention_heads": max(1, text_width // HEAD_UNITS),
        "vocab_size": vocabulary,
        "max_position_embeddings": sizes("positional_embedding", 2)[0],
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,  # the caption's features are those of its first end
    }
    dimension = sizes("text_projection", 2)[1]
    # Linear, ReLU and Dropout for each hidden layer; then the last Linear
    layers = (count(CLASSIFIER.pattern) - 1) // 3
    config = call_safely(
        location, EXPECTED, lambda: CLIPConfig(text_config=text, vision_config=vision, projection_dim=dimension)
    )
    return Options(hidden=hidden, hidden_layers=layers), config


def _translate(location: str, tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors by their names in `Classifier`, as views: their sizes are not checked yet."""
    for name, value in tensors.items():
        stem, _, end = name.rpartition(".")
        if name in TOP:
            yield f"backbone.{TOP[name]}", value.T if name in TRANSPOSED else value
        elif stem in NORMS:
            yield f"backbone.{NORMS[stem]}.{end}", value
        elif block := BLOCK.fullmatch(name):
            part = "vision_model" if block[1] else "text_model"
            place = f"backbone.{part}.encoder.layers.{int(block[2])}"
            inside, kind = block[3], block[4]
            if inside in IN_BLOCK:
                yield f"{place}.{IN_BLOCK[inside]}.{kind}", value
            elif inside == "attn" and kind in ("in_proj_weight", "in_proj_bias") and len(value) % 3 == 0:
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    yield f"{place}.self_attn.{letter}_proj.{kind.removeprefix('in_proj_')}", third
            else:
                raise make_error(location, EXPECTED, name)
        elif layer := CLASSIFIER.fullmatch(name):
            if int(layer[1]) % 3:
                raise make_error(location, EXPECTED, name)
            yield f"head.{int(layer[1]) // 3 * 2}.{layer[2]}", value
        else:
            raise make_error(location, EXPECTED, name)
