"""Read folders of runs, checkpoints and models that may come from anyone: only shapes, numbers and tokens are used.

Nothing in such a folder is executed, and no path or URL in it is followed. Weights are read from safetensors only.
`transformers` gets cleaned configurations, of model families that are part of it.
"""

import json
import logging
import math
import os
import re
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

from _newsclippings.facts import CONFIGS, EMBEDDINGS, NAME, OUTLETS
from _newsclippings.generated import is_name
from _newsclippings.text import printable
from _newsclippings.train.options import ALL, HUB_NAME, LOCATION_FLAGS, Options
from _newsclippings.train.recipes import OFFICIAL

logger = logging.getLogger(NAME)

NOTES: Final = "classifier.json"
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
STATE: Final = "trainer_state.json"
FAMILIES: Final = ("clip", "siglip", "metaclip_2", "altclip", "chinese_clip")
PLACES: Final = {"data", *LOCATION_FLAGS, "model", "from_config", "eval_only", "weights", "flags", "positive"}
EARLIER: Final = {"hidden_layers": 1}  # options of runs of version 1.0, which did not note them
TEXTS: Final = {"model_type", "hidden_act", "position_embedding_type"}  # texts kept of a config; others may be paths
TOKENIZERS: Final = {
    name + end
    for name in ("CLIPTokenizer", "SiglipTokenizer", "GemmaTokenizer", "XLMRobertaTokenizer", "BertTokenizer")
    for end in ("", "Fast")
} | {"PreTrainedTokenizerFast", "TokenizersBackend"}
TOKENS: Final = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt")
PARTS: Final = ("text_config", "vision_config", "text_config_dict", "vision_config_dict")  # old CLIPs have the latter
LARGEST_JSON: Final = 100_000_000  # bytes; the log of a long training may be large
LARGEST_TOKENS: Final = 100_000_000  # bytes of a vocabulary
LONGEST_VALUE: Final = 40  # characters of a value in a recipe
LARGEST_NUMBER: Final = 10_000_000  # in a configuration: units, tokens, pixels of a side
MOST_LAYERS: Final = 1_000

T = TypeVar("T")


def make_error(place: object, expected: str, found: object, do: str = "Use another one.") -> ValueError:
    """Make the error for a file with wrong content."""
    return ValueError(f"{printable(str(place))}: expected {expected}, found {printable(_shorten(found))}. {do}")


def _shorten(value: object) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    return " ".join(text.split())[:200].rstrip(".")


def call_safely(place: object, expected: str, call: Callable[[], T]) -> T:
    """Call a library function on a file that may come from anyone, and turn all its errors into one-line errors.

    Args:
        place: the file, for errors.
        expected: what it should be, for errors.
        call: the function.

    Raises:
        ValueError: the call failed.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except SafetensorError as error:
        raise make_weights_error(place, error) from error
    except BaseException as error:  # panics of Rust libraries are not Exceptions
        raise make_error(place, expected, error) from error


def make_weights_error(place: object, error: Exception) -> ValueError:
    """Make the error for weights that are truncated, or are not weights."""
    return ValueError(
        f"{printable(str(place))}: the weights are truncated or damaged ({printable(_shorten(str(error)))}). "
        "Use another checkpoint."
    )


# Files


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of a plain file in a folder.

    Raises:
        ValueError: it is a pipe or a device, or a link that leaves the folder.
    """
    # the Hub's cache links to its blobs, also from a folder in a snapshot
    caches = [place.parent.parent for place in (folder, folder.parent) if place.parent.name == "snapshots"]
    root = caches[0] if caches else folder
    file = folder / name
    try:
        real = file.resolve(strict=True)
        plain = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:
        raise make_error(file, "a file", error) from error
    if Path(name).name != name or not plain or not real.is_relative_to(root.resolve()):
        raise make_error(file, "a plain file of its folder", "a link out of it, a pipe or a device")
    return file


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON object from a file in a folder.

    Raises:
        ValueError: it is no plain file, too large, or not a JSON object.
    """
    file = resolve_inside(folder, name)
    size = file.stat().st_size
    if size > LARGEST_JSON:
        raise make_error(file, f"at most {LARGEST_JSON:,} bytes", f"{size:,}")
    content = call_safely(file, "JSON", lambda: json.loads(file.read_text(encoding="utf-8")))
    if not isinstance(content, dict):
        raise make_error(file, "a JSON object", type(content).__name__)
    return content


# Runs


def read_notes(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the notes of a run.

    Returns:
        All notes; and its options that are not places, checked to be values that `Options` can have.

    Raises:
        ValueError: the notes are damaged.
    """
    notes = read_json(home, NOTES)
    options, stream, backbone = notes.get("options"), notes.get("stream"), notes.get("backbone")
    counts = stream is None or (
        isinstance(stream, dict) and all(_is_count(stream.get(k)) for k in ("workers", "ranks"))
    )
    if not isinstance(options, dict) or not counts or not isinstance(backbone, dict | None):
        raise make_error(home / NOTES, "options, stream and backbone as a run notes them", "something else")
    if "positive" not in options and (options.get("text_only") or options.get("image_only")):
        expected = "an ablation of this version, which makes pictures or captions blank"
        raise make_error(
            home / NOTES, expected, "one of an earlier version, whose features were zero", "Train it again."
        )
    return notes, EARLIER | read_options(home / NOTES, options)


def read_options(place: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read the options of a run that are not places, checked to be values that `Options` can have."""
    known = [field for field in fields(Options) if field.name in options and field.name not in PLACES]
    return {field.name: _check_option(place, field, options[field.name]) for field in known}


def read_base_model(place: Path, name: object) -> str | None:
    """Check the name on the Hub of the model that was fine-tuned; None without one."""
    if name is None or (isinstance(name, str) and HUB_NAME.fullmatch(name)):
        return name
    raise make_error(place, "the name of a model on the Hub as base_model", repr(name)[:80])


def read_changes(place: Path, noted: object) -> dict[str, Any]:
    """Check the flags of the recipe that had another value in the training of a run."""
    changes: dict[str, Any] = noted if isinstance(noted, dict) else {}
    plain = isinstance(noted, dict | None) and all(
        name in {*OFFICIAL, "lora"} and isinstance(value, bool | int | float | str) and len(str(value)) <= LONGEST_VALUE
        for name, value in changes.items()
    )
    if not plain:
        raise make_error(place, "changes of the recipe as a run notes them", repr(noted)[:80])
    return changes


def read_widths(place: Path, notes: Mapping[str, Any], columns: Iterable[str]) -> dict[str, int]:
    """Read from the notes of a run the widths of its columns of vectors. Earlier versions did not note the authors'.

    Raises:
        ValueError: they are damaged.
    """
    noted = notes.get("widths", {name: vectors.width for name, vectors in EMBEDDINGS.items()})
    widths: dict[str, int] = {}
    for name in columns:
        width = noted.get(name) if isinstance(noted, dict) else None
        if type(width) is not int or not 0 < width <= LARGEST_NUMBER:
            raise make_error(place, f"the width of the vectors {printable(name)[:80]}", repr(width)[:80])
        widths[name] = width
    return widths


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20


def _check_option(place: Path, field: Any, value: Any) -> Any:
    """Return a noted value if a field of `Options` can have it; else raise `ValueError`."""
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
        right = all(isinstance(item, str) and item in choices for item in (value if several else [value]))
    if field.name == "config":
        names = value.split(",") if isinstance(value, str) else []
        right = value == ALL or (bool(names) and all(name in CONFIGS or is_name(name) for name in names))
    if right and isinstance(value, int | float) and not isinstance(value, bool):
        right = math.isfinite(value) and 0 <= value <= LARGEST_NUMBER
    if not right:
        raise make_error(place, f"an option {field.name} as a run notes it", repr(value)[:80])
    return value


def find_places(notes: Mapping[str, Any]) -> dict[str, str]:
    """Return the options of a run that are locations of data and not defaults."""
    given = {name: notes["options"].get(name) for name in ("data", *LOCATION_FLAGS)}
    defaults = {None, Options.data, Options.links}
    return {
        name: printable(" ".join(map(str, v)) if isinstance(v, list) else str(v))[:200]
        for name, v in given.items()
        if not (isinstance(v, str | None) and v in defaults)
    }


# Models


def read_backbone_config(place: object, raw: Mapping[str, Any]) -> Any:
    """Make a configuration of `transformers` from bounded numbers only, without code, kernels or paths.

    Raises:
        ValueError: it is not of a known model family, or not for pictures of one size.
    """
    kind = raw.get("model_type")
    family = printable(str(kind))[:80]
    expected = "a CLIP or a SigLIP with pictures of one size"
    if kind not in FAMILIES:
        raise ValueError(f"{printable(str(place))}: expected {expected}, found {family}.")
    cleaned = clean_config(place, raw)
    cleaned.pop("model_type")
    config = call_safely(place, expected, lambda: CONFIG_MAPPING[kind](**cleaned))
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    if not (hasattr(text, "vocab_size") and isinstance(getattr(vision, "image_size", None), int)):
        raise ValueError(f"{printable(str(place))}: expected {expected}, found {family}.")
    for part in (text, vision):
        layers = getattr(part, "num_hidden_layers", 0)
        if not isinstance(layers, int) or not 0 < layers <= MOST_LAYERS:
            raise make_error(place, f"1 to {MOST_LAYERS:,} layers", layers)
    return config


def clean_config(place: object, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Keep numbers, and texts that are no paths, of the configuration of a model."""
    kept: dict[str, Any] = {}
    for name, value in raw.items():
        if name.startswith(("output_", "return_", "torchscript")):  # they change what a model returns
            continue
        if name in PARTS and isinstance(value, Mapping):
            kept[name] = {k: v for k, v in clean_config(place, value).items() if k != "model_type"}
        elif isinstance(value, bool | None) or (isinstance(value, str) and name in TEXTS):
            kept[name] = value
        elif isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
                raise make_error(place, f"numbers up to {LARGEST_NUMBER:,}", f"{name} {str(value)[:40]}")
            kept[name] = value
    return kept


def read_shapes(weights: Path, place: object = None) -> dict[str, list[int]]:
    """Read the shape of each tensor, by name, from the header of a safetensors file.

    Args:
        weights: the file.
        place: named in errors; None for the file.

    Raises:
        ValueError: it is no safetensors file, or has tensors that are not floating point numbers.
    """
    shapes: dict[str, list[int]] = {}

    def read() -> None:
        with safe_open(weights, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a dict)
                part = file.get_slice(name)
                if part.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                    raise make_error(weights, "floating point numbers", part.get_dtype())
                shapes[name] = list(part.get_shape())

    try:
        read()
    except (SafetensorError, OSError) as error:
        raise make_weights_error(place or weights, error) from error
    return shapes


Check = Callable[[nn.Module], None]


def check_draft(place: object, make: Callable[[], nn.Module], *checks: Check) -> None:
    """Make a module without allocating memory, and raise `ValueError` if it fails a check or would not fit into memory.

    Args:
        place: where it comes from, for errors.
        make: makes the module.
        checks: each raises ValueError if the module must not be made.
    """

    def draft() -> nn.Module:
        with torch.device("meta"):
            return make()

    made = call_safely(place, "a model that can be made", draft)
    for check in checks:
        check(made)
    numbers = sum(parameter.numel() for parameter in made.parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > memory:
        raise make_error(place, f"a model that {memory:,} bytes of memory hold", f"one of {numbers:,} numbers")


M = TypeVar("M", bound=nn.Module)


def build_module(place: object, make: Callable[[], M], *checks: Check) -> M:
    """Make a module, after `check_draft`."""
    check_draft(place, make, *checks)
    return call_safely(place, "a model that can be made", make)


def check_shapes(place: object, shapes: Mapping[str, list[int]], what: str = f"weights that fit {NOTES}") -> Check:
    """Return a check that a module has exactly these tensors; errors say that `what` was expected."""

    def check(draft: nn.Module) -> None:
        wanted = {name: list(tensor.shape) for name, tensor in draft.state_dict().items()}
        wrong = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        if wrong:
            expected = f"{wrong[0]} of shape {wanted.get(wrong[0], 'none')}"
            raise make_error(place, f"{what}: {expected}", shapes.get(wrong[0], "none"))

    return check


def find_weights(folder: Path) -> list[Path]:
    """Return the safetensors files in the folder of a model.

    Raises:
        ValueError: it has none, or they are outside of it.
    """
    if (folder / "adapter_config.json").exists():
        raise make_error(folder, "a model", "an adapter for another model", "Merge the two first.")
    if (folder / WEIGHTS).exists():
        return [resolve_inside(folder, WEIGHTS)]
    if (folder / INDEX).exists():
        parts = read_json(folder, INDEX).get("weight_map")
        names = (
            set(parts.values()) if isinstance(parts, dict) and all(isinstance(v, str) for v in parts.values()) else ()
        )
        if names and all(name.endswith(".safetensors") for name in names):
            return [resolve_inside(folder, name) for name in sorted(names)]
        raise make_error(folder / INDEX, "names of safetensors files", "something else")
    raise make_error(folder, WEIGHTS, "none; other formats can contain programs", "Save it as safetensors.")


def check_size(place: object, files: Iterable[Path]) -> Check:
    """Return a check that a module does not have more numbers than its files have bytes."""
    size = sum(file.stat().st_size for file in files)

    def check(draft: nn.Module) -> None:
        numbers = sum(parameter.numel() for parameter in draft.parameters())
        if numbers > size:
            raise make_error(place, f"weights of the {numbers:,} numbers of its config.json", f"{size:,} bytes")

    return check


# Tokenizers


def read_tokenizer(folder: Path, kind: str | None = None) -> Any:
    """Read a tokenizer from its tokens and its harmless settings.

    Args:
        folder: of a tokenizer, or of a model.
        kind: `model_type` of the model, by which `transformers` chooses a class if the settings name none.

    Raises:
        ValueError: it cannot be read, or is of an unknown class.
    """
    with tempfile.TemporaryDirectory(prefix="newsclippings-") as place:
        for name in TOKENS:
            if os.path.lexists(folder / name):
                file = resolve_inside(folder, name)
                if file.stat().st_size > LARGEST_TOKENS:
                    raise make_error(file, f"at most {LARGEST_TOKENS:,} bytes", f"{file.stat().st_size:,}")
                shutil.copyfile(file, Path(place, name))
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            if os.path.lexists(folder / name):
                settings = {k: v for k, v in read_json(folder, name).items() if _is_token_setting(k, v)}
                chosen = settings.get("tokenizer_class")
                if chosen is not None and chosen not in TOKENIZERS:
                    raise make_error(folder / name, "a tokenizer of CLIP or SigLIP", chosen)
                Path(place, name).write_text(json.dumps(settings), encoding="utf-8")
        if os.path.lexists(folder / "added_tokens.json"):
            added = read_json(folder, "added_tokens.json")
            numbers = {k: v for k, v in added.items() if type(v) is int}
            Path(place, "added_tokens.json").write_text(json.dumps(numbers), encoding="utf-8")
        if kind is not None:
            Path(place, "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
        return call_safely(
            folder,
            "a tokenizer",
            lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=True),
        )


def _is_token_setting(name: str, value: object) -> bool:
    """Check whether a setting of a tokenizer is about its tokens, and not a file, code or a template."""
    if name in ("tokenizer_class", "backend", "padding_side", "truncation_side", "errors"):
        return isinstance(value, str)
    if name.endswith("_token") or name in ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"):
        return isinstance(value, str | dict | list | None)
    return isinstance(value, bool | int | float) and name not in ("from_slow", "trust_remote_code")


def check_tokens(place: object, tokenizer: Any, vocabulary: int) -> None:
    """Raise `ValueError` if a tokenizer has token ids for which a model has no vector."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocabulary:
        raise make_error(place, f"a tokenizer of the model's {vocabulary:,} tokens", f"a token of number {largest:,}")


# Checkpoints


def find_last_checkpoint(folder: Path) -> str | None:
    """Return the last checkpoint of a run that was saved completely: `trainer_state.json` is written last."""
    numbers = {}
    for place in folder.glob("checkpoint-*"):
        number = re.fullmatch(r"checkpoint-(\d{1,15})", place.name)
        if number and place.is_dir():
            numbers[int(number[1])] = place
    for _, place in sorted(numbers.items(), reverse=True):
        try:
            read_json(place, STATE)
        except ValueError:
            logger.warning("%s was not saved completely: an earlier one is used.", place)
            continue
        return str(place)
    return None


def check_checkpoint(folder: Path, sharded: bool) -> None:
    """Check that a checkpoint contains only numbers, before `Trainer` resumes from it.

    Args:
        folder: of the checkpoint.
        sharded: whether FSDP or DeepSpeed wrote its weights, which are then not safetensors.

    Raises:
        ValueError: it is no checkpoint, or has files that must not be read.
    """
    if not folder.is_dir():
        raise make_error(folder, "a checkpoint", "no folder")
    for file in sorted(folder.iterdir()):
        if not file.is_dir() or file.is_symlink():
            resolve_inside(folder, file.name)
    if not sharded and not (folder / WEIGHTS).exists():
        raise make_error(folder, f"a checkpoint with {WEIGHTS}", "none; other formats can contain programs")
    if not (folder / STATE).exists():
        raise make_error(folder, f"a checkpoint with {STATE}", "none; it was not saved completely")
    if not sharded and (foreign := [n for n in ("config.json", "adapter_config.json") if (folder / n).exists()]):
        raise make_error(folder, "a checkpoint of this training", foreign[0])
    noted = read_json(folder, STATE)
    if noted.get("best_model_checkpoint") is not None:
        raise make_error(folder / STATE, "no best_model_checkpoint", "a path")
    call_safely(folder / STATE, "the state of a training", lambda: TrainerState.load_from_json(str(folder / STATE)))
    if type(noted.get("global_step")) is not int or not 0 <= noted["global_step"] < 1 << 53:
        raise make_error(folder / STATE, "a number of steps", noted.get("global_step"))
    history = noted.get("log_history", [])
    for entry in history if isinstance(history, list) else [history]:  # a checkpoint is found by the steps in it
        numbers = isinstance(entry, dict) and all(type(value) in (int, float) for value in entry.values())
        if not numbers or type(entry.get("step", 0)) is not int:
            raise make_error(folder / STATE, "numbers in log_history", entry)
    from transformers.trainer_pt_utils import safe_globals

    for file in sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
        with safe_globals():
            load_numbers(file, file, "numbers, as a training saves them")


def _check_archive(file: Path, place: object, expected: str) -> None:
    """Raise `ValueError` if a file of torch decompresses to more than its size."""
    with call_safely(place, expected, lambda: zipfile.ZipFile(file)) as parts:
        entries = parts.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > file.stat().st_size:
        raise make_error(place, expected, "an archive that decompresses to more")


def load_numbers(file: Path, place: object, expected: str) -> Any:
    """Load a file of torch that has nothing but numbers, without copying them.

    Args:
        file: the file.
        place: named in errors.
        expected: what it should be, for errors.

    Raises:
        ValueError: it has anything else, or decompresses to more than its size.
    """
    _check_archive(file, place, expected)
    return call_safely(place, expected, lambda: torch.load(file, map_location="cpu", weights_only=True, mmap=True))
