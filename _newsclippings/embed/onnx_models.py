"""Encoders in ONNX files, run by onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.libraries import find_versions, measure_width, normalise, pad, report_library_errors, require
from _newsclippings.embed.model_folder import ModelFolder, local_folder
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError

MODELS = ("model.onnx", "onnx/model.onnx")  # the second in repositories of sentence-transformers
POOLINGS = ("mean", "cls")
VECTORS = ("sentence_embedding", "text_embeds", "image_embeds", "pooler_output")  # names of outputs (N, width)


def open_onnx(model: str, of: str, device: str | None) -> Encoder:
    """Open an ONNX model.

    Captions are encoded by a model with a tokenizer.json; if it gives vectors of tokens, they are pooled, and
    normalised, as the files of sentence-transformers beside it say (1_Pooling/config.json, modules.json). Pictures are
    encoded by a model with a preprocessor_config.json.

    Args:
        model: the folder of model.onnx.
        of: `"pictures"` or `"captions"`.
        device: `"cpu"`, `"cuda"` or `"cuda:1"`; None for a GPU if onnxruntime can use one.

    Raises:
        NewsCLIPpingsError: it is missing, damaged or refused, or has no vectors of that side.
    """
    require(f"onnx:{model}", ("onnxruntime", "tokenizers" if of == "captions" else "transformers"),
            f"pip install onnxruntime {'tokenizers' if of == 'captions' else 'transformers'}")  # fmt: skip
    folder = local_folder(Path(model).expanduser())
    file = next((folder.path / name for name in MODELS if folder.has(name)), None)
    if file is None:
        message = f"{model} has no model.onnx. Choose the folder of an ONNX model."
        raise DataNotFoundError(message)
    with report_library_errors(folder.name, "cannot be loaded"):
        session, provider = _open_session(file, device)
    inputs = {value.name for value in session.get_inputs()}
    needed = "input_ids" if of == "captions" else "pixel_values"
    if needed not in inputs:
        message = (
            f"{folder.name} takes {', '.join(sorted(inputs))}, and not {needed}: it has no vectors of {of}. Choose "
            f"another model, or save this one with an input of that name."
        )
        raise ConfigError(message)
    weights = [file, *sorted(file.parent.glob(f"{file.name}[_.]data"))]
    name, pooling, unit = _choose_output(folder, session)
    facts: dict[str, Any] = {
        **folder.describe_origin(weights, "onnx:"),
        "kind": "onnx",
        "output": name,
        "pooling": pooling,
    }
    side = None
    if of == "captions":
        prepare, most = _make_tokenizer(folder, inputs)
        facts |= {"tokenizer_sha256": folder.compute_sums([folder.path / "tokenizer.json"]), "max_tokens": most}
    else:
        from _newsclippings.embed.picture_processor import PictureProcessor

        processor = PictureProcessor(folder)
        prepare, side = processor.prepare, processor.side
        facts["preprocessing"] = processor.facts

    def encode(items: list[Any]) -> Float32s:
        arrays = pad(items, {}) if of == "captions" else items
        batch = {key: np.stack([item[key] for item in arrays]) for key in arrays[0] if key in inputs}
        (values,) = session.run([name], batch)
        if pooling == "mean":
            mask = np.stack([item["attention_mask"] for item in arrays])[..., None]
            values = (values * mask).sum(1) / mask.sum(1)
        elif pooling == "cls":
            values = values[:, 0]
        values = values.astype(np.float32)
        return normalise(values) if unit else values

    return Encoder(
        of=of,
        width=measure_width(folder.name, of, prepare, encode),
        facts={
            **facts,
            "normalised": unit,
            "device": provider,
            "versions": find_versions("onnxruntime", "tokenizers" if of == "captions" else "transformers"),
        },
        prepare=prepare,
        encode=encode,
        normalised=unit,
        side=side,
        # A model that is quantised while it runs takes its scale from the whole batch, so that neighbours would matter.
        batch=1 if b"DynamicQuantize" in file.read_bytes() else 32,
    )


def _open_session(file: Path, device: str | None) -> tuple[Any, str]:
    """Return a session of onnxruntime, and the device that it runs on."""
    import onnxruntime

    can_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    kind, _, number = (device or ("cuda" if can_cuda else "cpu")).partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not can_cuda):
        message = f"device={device!r}: onnxruntime cannot use it here. Choose cpu, or install onnxruntime-gpu for cuda."
        raise ConfigError(message)
    cuda = ("CUDAExecutionProvider", {"device_id": int(number) if number.isdecimal() else 0})
    providers = ["CPUExecutionProvider"] if kind == "cpu" else [cuda, "CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; the warnings are about how the file was exported
    return onnxruntime.InferenceSession(str(file), options, providers=providers), kind


def _choose_output(folder: ModelFolder, session: Any) -> tuple[str, str, bool]:
    """Return the output that is used, how it is pooled (`"none"`, `"mean"`, `"cls"`), and whether it is normalised.

    Raises:
        BadFileError: the model gives vectors of tokens, and no file says how they are pooled.
    """
    outputs = {value.name: len(value.shape) for value in session.get_outputs()}
    modules = folder.read_json("modules.json") if folder.has("modules.json") else []
    unit = any(str(module.get("type", "")).endswith(".Normalize") for module in modules if isinstance(module, dict))
    name = next((name for name in VECTORS if outputs.get(name) == 2), None)
    name = name or next((name for name, rank in outputs.items() if rank == 2), None)
    if name:
        return name, "none", unit
    name = next(iter(outputs))
    settings = folder.read_json("1_Pooling/config.json") if folder.has("1_Pooling/config.json") else {}
    chosen = [key for key in POOLINGS if settings.get(f"pooling_mode_{key}_token{'s' if key == 'mean' else ''}")]
    chosen = chosen or [settings["pooling_mode"]] if isinstance(settings.get("pooling_mode"), str) else chosen
    if outputs[name] != 3 or len(chosen) != 1 or chosen[0] not in POOLINGS:
        message = (
            f"{folder.name} gives vectors of tokens, and no file says how to pool them by the mean or the first token. "
            f'Write {{"pooling_mode_mean_tokens": true}} (or pooling_mode_cls_token) into '
            f"{folder.path / '1_Pooling/config.json'}."
        )
        raise BadFileError(message)
    return name, chosen[0], unit


def _make_tokenizer(folder: ModelFolder, inputs: set[str]) -> tuple[Any, int]:
    """Return a function that makes the tokens of a caption, and the largest number of tokens.

    Raises:
        DataNotFoundError, BadFileError: tokenizer.json is missing or damaged.
    """
    from tokenizers import Tokenizer

    if not folder.has("tokenizer.json"):
        message = f"{folder.name} has no tokenizer.json. Save the model's tokenizer there, too."
        raise DataNotFoundError(message)
    with report_library_errors(folder.name, "has a tokenizer.json that cannot be used"):
        tokenizer = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
    most = (tokenizer.truncation or {}).get("max_length", 512)
    if folder.has("sentence_bert_config.json"):
        stated = folder.read_json("sentence_bert_config.json")
        most = stated.get("max_seq_length") or most if isinstance(stated, dict) else most
    with report_library_errors(folder.name, "has a sentence_bert_config.json that cannot be used"):
        tokenizer.enable_truncation(most)
    tokenizer.no_padding()

    def prepare(caption: str) -> dict[str, list[int]]:
        tokens = tokenizer.encode(caption)
        return {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, "token_type_ids": tokens.type_ids}

    return prepare, most
