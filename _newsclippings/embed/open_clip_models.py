"""Encoders of open_clip."""

from pathlib import Path
from typing import Any

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.libraries import find_versions, measure_width, pick_device, report_library_errors, require
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.storage import compute_sha256
from _newsclippings.text import did_you_mean


def open_open_clip(model: str, of: str, device: str | None) -> Encoder:
    """Open a model of open_clip. Vectors are the projected features, as the model gives them.

    Args:
        model: ARCH/PRETRAINED, of which PRETRAINED is a name that open_clip knows, or a safetensors file.
        of: `"pictures"` or `"captions"`.
        device: as torch names it; None to choose.

    Raises:
        NewsCLIPpingsError: it is unknown, damaged or refused.
    """
    require(f"open_clip:{model}", ("torch", "torchvision", "open_clip"), "pip install open_clip_torch")
    import torch

    with report_library_errors("open_clip", "cannot be imported, perhaps since torchvision does not fit torch"):
        import open_clip

    where = pick_device(device)
    kind, _, source = model.partition("/")
    weights = _find_weights(kind, source)
    with report_library_errors(model, "cannot be loaded"):
        network, transform = open_clip.create_model_from_pretrained(
            kind, pretrained=source, precision="fp32", device=where, weights_only=True
        )
        network.train(False)
        tokenizer = open_clip.get_tokenizer(kind)
    settings = open_clip.get_model_preprocess_cfg(network)

    def prepare(item: Any) -> Any:
        return transform(item).numpy() if of == "pictures" else tokenizer([item])[0].numpy()

    def encode(items: list[Any]) -> Float32s:
        batch = torch.stack([torch.from_numpy(item) for item in items]).to(where)
        with torch.inference_mode():
            features = network.encode_image(batch) if of == "pictures" else network.encode_text(batch)
        vectors: Float32s = features.float().cpu().numpy()
        return vectors

    size = settings.get("size")
    tokens = {"tokenizer": type(tokenizer).__name__, "max_tokens": getattr(tokenizer, "context_length", None)}
    return Encoder(
        of=of,
        width=measure_width(model, of, prepare, encode),
        facts={
            "model": f"open_clip:{kind}/{f'./{weights.name}' if Path(source) == weights else source}",
            "revision": None,
            "weights_sha256": {weights.name: compute_sha256(weights)},
            "kind": "open_clip",
            "pooling": "projected features",
            **({"preprocessing": settings} if of == "pictures" else tokens),
            "device": where.type,
            "dtype": "float32",
            "versions": find_versions("open_clip_torch", "torch", *(["pillow"] if of == "pictures" else [])),
        },
        prepare=prepare,
        encode=encode,
        side=(max(size) if isinstance(size, tuple | list) else size) if of == "pictures" else None,
        batch=32 if where.type == "cpu" else 128,
    )


def _find_weights(kind: str, source: str) -> Path:
    """Return the safetensors file of a model, which is fetched if it is not there.

    Raises:
        ConfigError: there is no such architecture, or no such weights of it.
        BadFileError: the weights have another format.
    """
    import open_clip

    models = open_clip.list_models()
    if kind not in models:
        message = f"open_clip has no model {kind}.{did_you_mean(kind, models)} open_clip.list_models() lists them."
        raise ConfigError(message)
    known = open_clip.list_pretrained_tags_by_model(kind)
    if source in known:
        with report_library_errors(f"open_clip:{kind}/{source}", "cannot be fetched"):
            weights = Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(kind, source)))
    else:
        weights = Path(source)
        if not source or not weights.is_file():
            tags = ", ".join(known) or "none"
            message = (
                f"open_clip has no weights {source or '(none given)'} of {kind}.{did_you_mean(source, known)} Choose "
                f"one of {tags}, or name a safetensors file: open_clip:{kind}/PRETRAINED."
            )
            raise ConfigError(message)
    if weights.suffix != ".safetensors":
        message = (
            f"open_clip:{kind}/{source}: its weights are {weights.name}, a format that can contain programs and is "
            "never read. Choose another one, or save them as safetensors and name that file."
        )
        raise BadFileError(message)
    return weights
