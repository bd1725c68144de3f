"""What is taken from the folder of a run, a checkpoint or a model, whoever made it: shapes, numbers and tokens.

Nothing in such a folder is executed, names a place that is read, or makes anybody ask a question. Weights come from
safetensors only. `transformers` is shown configurations that were cleaned, of families of models that it has itself.
"""

import json
import math
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CONFIG_MAPPING, AutoTokenizer, TrainerState

from _newsclippings.facts import OUTLETS
from _newsclippings.text import printable
from _newsclippings.train.options import Options

ABOUT: Final = "classifier.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
STATE: Final = "trainer_state.json"
FAMILIES: Final = ("clip", "siglip", "metaclip_2", "altclip", "chinese_clip")
PLACES: Final = {"data", "data_dir", "visual_news", "visual_news_index", "model", "from_config", "eval_only"}
TEXTS: Final = {"model_type", "hidden_act", "position_embedding_type"}  # of a configuration; others may name places
TOKENIZERS: Final = {
    name + end
    for name in ("CLIPTokenizer", "SiglipTokenizer", "GemmaTokenizer", "XLMRobertaTokenizer", "BertTokenizer")
    for end in ("", "Fast")
} | {"PreTrainedTokenizerFast", "TokenizersBackend"}
TOKENS: Final = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt")
PARTS: Final = ("text_config", "vision_config", "text_config_dict", "vision_config_dict")  # the latter of old CLIPs
LARGEST_JSON: Final = 100_000_000  # bytes; a log of a long training has some
LARGEST_TOKENS: Final = 100_000_000  # bytes of a vocabulary
LARGEST_NUMBER: Final = 10_000_000  # of a configuration: units, tokens, pixels of a side
MOST_LAYERS: Final = 1_000

T = TypeVar("T")


def fault(place: object, expected: str, found: object, do: str = "Use another one.") -> ValueError:
    """A file is not what it should be."""
    return ValueError(f"{printable(str(place))}: expected {expected}, found {printable(_line(found))}. {do}")


def _line(found: object) -> str:
    text = f"{type(found).__name__}: {found}" if isinstance(found, BaseException) else str(found)
    return " ".join(text.split())[:200]


def careful(place: object, expected: str, call: Callable[[], T]) -> T:
    """The result of a call into a library that was given somebody's file; whatever it raises becomes one line.

    Raises:
        ValueError: it failed.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except SafetensorError as error:
        raise cut_off(place, error) from error
    except BaseException as error:  # a panic of a Rust library is no Exception
        raise fault(place, expected, error) from error


def cut_off(place: object, error: Exception) -> ValueError:
    """Weights that end too early, or are none."""
    return ValueError(
        f"{printable(str(place))}: expected weights, found a file that is cut off ({printable(_line(str(error)))}). "
        "Use another checkpoint."
    )


# Files


def inside(folder: Path, name: str) -> Path:
    """A plain file of a folder, by a plain name.

    Raises:
        ValueError: it is a pipe or a device, or a link that leads out of the folder.
    """
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder  # the Hub's cache links to its blobs
    file = folder / name
    try:
        real = file.resolve(strict=True)
        plain = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:
        raise fault(file, "a file", error) from error
    if Path(name).name != name or not plain or not real.is_relative_to(root.resolve()):
        raise fault(file, "a plain file of its folder", "a link out of it, a pipe or a device")
    return file


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a folder.

    Raises:
        ValueError: it is no such file, too large, or no JSON object.
    """
    file = inside(folder, name)
    size = file.stat().st_size
    if size > LARGEST_JSON:
        raise fault(file, f"at most {LARGEST_JSON:,} bytes", f"{size:,}")
    found = careful(file, "JSON", lambda: json.loads(file.read_text(encoding="utf-8")))
    if not isinstance(found, dict):
        raise fault(file, "a JSON object", type(found).__name__)
    return found


# Runs


def read_about(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run noted: all of it, and those of its options that are no places, as values that `Options` can have.

    Raises:
        ValueError: it is damaged.
    """
    about = read_json(home, ABOUT)
    options, stream, backbone = about.get("options"), about.get("stream"), about.get("backbone")
    counts = stream is None or (
        isinstance(stream, dict) and all(_is_count(stream.get(k)) for k in ("workers", "ranks"))
    )
    if not isinstance(options, dict) or not counts or not isinstance(backbone, dict | None):
        raise fault(home / ABOUT, "options, stream and backbone as a run notes them", "something else")
    known = {}
    for one in fields(Options):
        if one.name in options and one.name not in PLACES:
            known[one.name] = _option(home / ABOUT, one, options[one.name])
    return about, known


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


def _option(place: Path, field: Any, value: Any) -> Any:
    choices = field.metadata.get("choices") or (OUTLETS if field.name == "train_outlets" else None)
    default = field.default if field.default is not MISSING else None
    kinds = tuple(kind for kind in (get_args(field.type) or (field.type,)) if isinstance(kind, type))
    several = isinstance(value, list)
    kinds += (int,) if float in kinds else ()
    right = (
        (value is None and default is None)
        or (field.name == "train_outlets" and several and bool(value))
        or (isinstance(value, bool) if bool in kinds else isinstance(value, kinds) and not isinstance(value, bool))
    )
    if right and choices and value is not None:
        right = all(isinstance(one, str) and one in choices for one in (value if several else [value]))
    if right and isinstance(value, int | float) and not isinstance(value, bool):
        right = math.isfinite(value) and 0 <= value <= LARGEST_NUMBER
    if not right:
        raise fault(place, f"an option {field.name} as a run notes it", repr(value)[:80])
    return value


def named_places(about: Mapping[str, Any]) -> dict[str, str]:
    """Of a run's options, those that say where its data were."""
    given = {name: about["options"].get(name) for name in ("data", "data_dir", "visual_news", "visual_news_index")}
    defaults = {None, Options.data}
    return {
        name: printable(str(v))[:200] for name, v in given.items() if not (isinstance(v, str | None) and v in defaults)
    }


# Models


def backbone_config(place: object, raw: Mapping[str, Any]) -> Any:
    """A configuration of `transformers`, of numbers only: no code, no kernels, no other place, nothing without bounds.

    Raises:
        ValueError: it is not of a family that is known here, or not of pictures of one size.
    """
    kind = raw.get("model_type")
    found = printable(str(kind))[:80]
    expected = "a CLIP or a SigLIP with pictures of one size"
    if kind not in FAMILIES:
        raise ValueError(f"{printable(str(place))}: expected {expected}, found {found}.")
    cleaned = _cleaned(place, raw)
    cleaned.pop("model_type")
    config = careful(place, expected, lambda: CONFIG_MAPPING[kind](**cleaned))
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    if not (hasattr(text, "vocab_size") and isinstance(getattr(vision, "image_size", None), int)):
        raise ValueError(f"{printable(str(place))}: expected {expected}, found {found}.")
    for part in (text, vision):
        layers = getattr(part, "num_hidden_layers", 0)
        if not isinstance(layers, int) or not 0 < layers <= MOST_LAYERS:
            raise fault(place, f"1 to {MOST_LAYERS:,} layers", layers)
    return config


def _cleaned(place: object, raw: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in raw.items():
        if name.startswith(("output_", "return_", "torchscript")):  # other answers than are asked for here
            continue
        if name in PARTS and isinstance(value, Mapping):
            kept[name] = {k: v for k, v in _cleaned(place, value).items() if k != "model_type"}
        elif isinstance(value, bool | None) or (isinstance(value, str) and name in TEXTS):
            kept[name] = value
        elif isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
                raise fault(place, f"numbers up to {LARGEST_NUMBER:,}", f"{name} {str(value)[:40]}")
            kept[name] = value
    return kept


def shapes_of(weights: Path, place: object = None) -> dict[str, list[int]]:
    """Name -> shape of each tensor of a safetensors file, by its header.

    Args:
        weights: the file.
        place: what errors name; else the file.

    Raises:
        ValueError: it is none, or of anything but floating point numbers.
    """
    found: dict[str, list[int]] = {}

    def read() -> None:
        with safe_open(weights, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a dict)
                part = file.get_slice(name)
                if part.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                    raise fault(weights, "floating point numbers", part.get_dtype())
                found[name] = list(part.get_shape())

    try:
        read()
    except (SafetensorError, OSError) as error:
        raise cut_off(place or weights, error) from error
    return found


Check = Callable[[nn.Module], None]


def check_draft(place: object, make: Callable[[], nn.Module], *checks: Check) -> None:
    """Raise `ValueError` if a module would not fit into memory, or fails other checks. It is made without memory.

    Args:
        place: where it comes from, for errors.
        make: makes it.
        checks: raise ValueError if it may not be made.
    """

    def draft() -> nn.Module:
        with torch.device("meta"):
            return make()

    made = careful(place, "a model that can be made", draft)
    for check in checks:
        check(made)
    numbers = sum(one.numel() for one in made.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > memory:
        raise fault(place, f"a model that {memory:,} bytes of memory hold", f"one of {numbers:,} numbers")


M = TypeVar("M", bound=nn.Module)


def build(place: object, make: Callable[[], M], *checks: Check) -> M:
    """Make a module, after `check_draft`."""
    check_draft(place, make, *checks)
    return careful(place, "a model that can be made", make)


def same_shapes(place: object, shapes: Mapping[str, list[int]]) -> Check:
    """A check for `build`: that a module has just these tensors."""

    def check(draft: nn.Module) -> None:
        wanted = {name: list(one.shape) for name, one in draft.state_dict().items()}
        odd = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        if odd:
            expected = f"{odd[0]} of shape {wanted.get(odd[0], 'none')}"
            raise fault(place, f"weights that fit {ABOUT}: {expected}", shapes.get(odd[0], "none"))

    return check


def weights_of(folder: Path) -> list[Path]:
    """The safetensors files of a model's folder.

    Raises:
        ValueError: there are none, or they are not in it.
    """
    if (folder / "adapter_config.json").exists():
        raise fault(folder, "a model", "an adapter, which names another model", "Merge the two first.")
    if (folder / WEIGHTS).exists():
        return [inside(folder, WEIGHTS)]
    if (folder / INDEX).exists():
        parts = read_json(folder, INDEX).get("weight_map")
        names = (
            set(parts.values()) if isinstance(parts, dict) and all(isinstance(v, str) for v in parts.values()) else ()
        )
        if names and all(name.endswith(".safetensors") for name in names):
            return [inside(folder, name) for name in sorted(names)]
        raise fault(folder / INDEX, "names of safetensors files", "something else")
    raise fault(folder, WEIGHTS, "none; other formats can hold programs", "Save it as safetensors.")


def no_larger_than(place: object, files: Iterable[Path]) -> Check:
    """A check for `build`: that a module does not have more numbers than its files have bytes."""
    size = sum(file.stat().st_size for file in files)

    def check(draft: nn.Module) -> None:
        numbers = sum(one.numel() for one in draft.parameters())
        if numbers > size:
            raise fault(place, f"weights of the {numbers:,} numbers of its config.json", f"{size:,} bytes")

    return check


# Tokenizers


def read_tokenizer(folder: Path, kind: str | None = None) -> Any:
    """The tokenizer of a folder, by its tokens and what can be kept of its settings.

    Args:
        folder: of a tokenizer, or of a model.
        kind: `model_type` of that model, by which `transformers` chooses a class where the settings name none.

    Raises:
        ValueError: it cannot be read, or is of a class that is not known here.
    """
    with tempfile.TemporaryDirectory(prefix="newsclippings-") as place:
        for name in TOKENS:
            if os.path.lexists(folder / name):
                file = inside(folder, name)
                if file.stat().st_size > LARGEST_TOKENS:
                    raise fault(file, f"at most {LARGEST_TOKENS:,} bytes", f"{file.stat().st_size:,}")
                shutil.copyfile(file, Path(place, name))
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if os.path.lexists(folder / name):
                settings = {k: v for k, v in read_json(folder, name).items() if _is_of_tokens(k, v)}
                chosen = settings.get("tokenizer_class")
                if chosen is not None and chosen not in TOKENIZERS:
                    raise fault(folder / name, "a tokenizer of CLIP or SigLIP", chosen)
                Path(place, name).write_text(json.dumps(settings), encoding="utf-8")
        if os.path.lexists(folder / "added_tokens.json"):
            added = read_json(folder, "added_tokens.json")
            numbers = {k: v for k, v in added.items() if type(v) is int}
            Path(place, "added_tokens.json").write_text(json.dumps(numbers), encoding="utf-8")
        if kind is not None:
            Path(place, "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
        return careful(
            folder,
            "a tokenizer",
            lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True),
        )


def _is_of_tokens(name: str, value: object) -> bool:
    """Whether a setting of a tokenizer is of its tokens: no file, no code, no template."""
    if name in ("tokenizer_class", "backend", "padding_side", "truncation_side", "errors"):
        return isinstance(value, str)
    if name.endswith("_token") or name in ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"):
        return isinstance(value, str | dict | list | None)
    return isinstance(value, bool | int | float) and name not in ("from_slow", "trust_remote_code")


def check_tokens(place: object, tokenizer: Any, vocabulary: int) -> None:
    """Raise `ValueError` if a tokenizer has numbers for which a model has no vector."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocabulary:
        raise fault(place, f"a tokenizer of the model's {vocabulary:,} tokens", f"a token of number {largest:,}")


# Checkpoints


def check_checkpoint(folder: Path, sharded: bool) -> None:
    """Look at a checkpoint before `Trainer` goes on from it: nothing in it is more than numbers.

    Args:
        folder: of the checkpoint.
        sharded: whether other libraries wrote its weights (FSDP, DeepSpeed), so that there are no safetensors.

    Raises:
        ValueError: it is none, or holds what is not to be read.
    """
    if not folder.is_dir():
        raise fault(folder, "a checkpoint", "no folder")
    for file in sorted(folder.iterdir()):
        if not file.is_dir() or file.is_symlink():
            inside(folder, file.name)
    if not sharded and not (folder / WEIGHTS).exists():
        raise fault(folder, f"a checkpoint with {WEIGHTS}", "none; other formats can hold programs")
    if not sharded and (foreign := [n for n in ("config.json", "adapter_config.json") if (folder / n).exists()]):
        raise fault(folder, "a checkpoint of this training", foreign[0])
    if (folder / STATE).exists():
        noted = read_json(folder, STATE)
        if noted.get("best_model_checkpoint") is not None:
            raise fault(folder / STATE, "no best_model_checkpoint", "a place")
        careful(folder / STATE, "the state of a training", lambda: TrainerState.load_from_json(str(folder / STATE)))
        if type(noted.get("global_step")) is not int or not 0 <= noted["global_step"] < 1 << 53:
            raise fault(folder / STATE, "a number of steps", noted.get("global_step"))
    for file in sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
        _check_numbers(file)


def _check_numbers(file: Path) -> None:
    """Raise `ValueError` if a file of torch holds anything but numbers, or unfolds to more than its size."""
    expected = "numbers, as a training saves them"
    with careful(file, expected, lambda: zipfile.ZipFile(file)) as parts:
        entries = parts.infolist()
    stored = all(one.compress_type == zipfile.ZIP_STORED for one in entries)
    if not stored or sum(one.file_size for one in entries) > file.stat().st_size:
        raise fault(file, expected, "an archive that unfolds to more")
    from transformers.trainer_pt_utils import safe_globals

    with safe_globals():
        careful(file, expected, lambda: torch.load(file, map_location="cpu", weights_only=True, mmap=True))
