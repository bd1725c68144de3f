"""Encoders of sentence-transformers."""

from pathlib import Path, PurePosixPath
from typing import Any

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.libraries import find_versions, measure_width, pick_device, report_library_errors, require
from _newsclippings.embed.model_folder import WEIGHTS, ModelFolder, find_model_folder, find_pickles, make_weights_error
from _newsclippings.errors import BadFileError, ConfigError

FILES = ("*.json", "*.txt", "*.model", "[!o]*.safetensors")  # not onnx/ and openvino/, which have the weights again
MODALITIES = {"captions": "text", "pictures": "image"}


def open_sentences(model: str, of: str, device: str | None) -> Encoder:
    """Open a model of sentence-transformers.

    Args:
        model: a folder, or NAME or NAME@REVISION on the Hub; without an owner, of sentence-transformers.
        of: `"captions"`, or `"pictures"` if the model takes pictures.
        device: as torch names it; None to choose.

    Raises:
        NewsCLIPpingsError: it is missing, damaged or refused, or has no vectors of that side.
    """
    require(f"st:{model}", ("torch", "sentence_transformers"), "pip install sentence-transformers")
    from sentence_transformers import SentenceTransformer

    where = pick_device(device)
    folder = find_model_folder(model, FILES) if "/" in model else _find_short(model)
    weights = _find_weights(folder)
    with report_library_errors(folder.name, "cannot be loaded"):
        network = SentenceTransformer(
            str(folder.path),
            device=str(where),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        ).train(False)
    if MODALITIES[of] not in getattr(network, "modalities", ["text"]):
        message = f"{folder.name} has no vectors of {of}. Choose another model."
        raise ConfigError(message)

    def encode(items: list[Any]) -> Float32s:
        vectors: Float32s = network.encode(
            items, batch_size=len(items), convert_to_numpy=True, normalize_embeddings=False, show_progress_bar=False
        )
        return vectors

    modules = list(network)
    return Encoder(
        of=of,
        width=measure_width(folder.name, of, _prepare, encode),
        facts={
            **folder.describe_origin(weights, "st:"),
            "kind": "sentence-transformers",
            "modules": [type(module).__name__ for module in modules],
            "pooling": [module.get_config_dict() for module in modules if type(module).__name__ == "Pooling"],
            "max_tokens": network.max_seq_length,
            "prompt": (network.prompts or {}).get(network.default_prompt_name),
            "device": where.type,
            "dtype": "float32",
            "versions": find_versions("sentence-transformers", "transformers", "torch"),
        },
        prepare=_prepare,
        encode=encode,
        normalised=type(modules[-1]).__name__ == "Normalize",
        batch=32 if where.type == "cpu" else 128,
    )


def _prepare(item: Any) -> Any:
    return item  # the library prepares whole batches


def _find_short(model: str) -> ModelFolder:
    return find_model_folder(model if Path(model).is_dir() else f"sentence-transformers/{model}", FILES)


def _find_weights(folder: ModelFolder) -> list[Path]:
    """Return the safetensors files of all modules.

    Raises:
        BadFileError: a module has its weights in another format, or is code of its own.
    """
    modules = folder.read_json("modules.json") if folder.has("modules.json") else [{"path": ""}]
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        message = f"{folder.path / 'modules.json'}: expected a list of modules. Fetch the model again."
        raise BadFileError(message)
    weights: list[Path] = []
    for module in modules:
        kind, place = str(module.get("type", "sentence_transformers.")), PurePosixPath(str(module.get("path", "")))
        if not kind.startswith("sentence_transformers.") or place.is_absolute() or ".." in place.parts:
            message = (
                f"{folder.name} has a module of its own ({kind} in {place}), which is never run. Choose another model, "
                "or write an encoder (py:module:function)."
            )
            raise BadFileError(message)
        files = sorted((folder.path / place).glob("*.safetensors"))
        if not files and any(find_pickles(folder.path / place)):
            raise make_weights_error(folder.name, str(place / WEIGHTS), pickles=True)
        weights += files
    if not weights:
        raise make_weights_error(folder.name, WEIGHTS, pickles=False)
    return weights
