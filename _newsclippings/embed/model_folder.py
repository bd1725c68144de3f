"""The folder of a model, on this machine or fetched from the Hugging Face Hub.

It may come from anyone. Weights are read from safetensors only, since other formats can contain programs, and nothing
that a configuration names is fetched or executed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _newsclippings.embed.libraries import describe
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError, RemoteReadError
from _newsclippings.storage import DECODER, compute_sha256, describe_json_error
from _newsclippings.text import short_repr

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
# Vocabularies of tokenizers
TOKENS: Final = (
    *("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
# Files of transformers that decide what a model computes
FILES: Final = (
    *("config.json", WEIGHTS, INDEX, "model-*-of-*.safetensors", "preprocessor_config.json", "processor_config.json"),
    *TOKENS,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
REPOSITORY: Final = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
CONVERSION: Final = ("SFconvertbot", "Adding `safetensors` variant of this model")  # author and title


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model.

    Attributes:
        path: the folder.
        name: its name for people and for plans: the repository on the Hub, or `./` and the last part of the path. Plans
            are published, and have no places of this machine.
        revision: the commit on the Hub; None for a folder of this machine.
    """

    path: Path
    name: str
    revision: str | None

    def describe_origin(self, weights: Sequence[Path], library: str = "") -> dict[str, Any]:
        """Return what identifies the model, for the facts of an encoder; `library` is what comes before its name."""
        return {"model": library + self.name, "revision": self.revision, "weights_sha256": self.compute_sums(weights)}

    def compute_sums(self, files: Iterable[Path]) -> dict[str, str]:
        """Return the SHA-256 of files by their names in the folder."""
        return {file.relative_to(self.path).as_posix(): compute_sha256(file) for file in files}

    def has(self, *names: str) -> bool:
        """Check whether one of some files exists."""
        return any((self.path / name).is_file() for name in names)

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            DataNotFoundError: there is none.
            BadFileError: it is not JSON.
        """
        file = self.path / name
        if not file.is_file():
            message = f"{file} does not exist. Choose the folder of a whole model."
            raise DataNotFoundError(message)
        try:
            return DECODER.decode(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            message = f"{file}: expected JSON, found {describe_json_error(error)}. Fetch the model again."
            raise BadFileError(message) from None


def local_folder(path: Path) -> ModelFolder:
    """Return a folder of this machine."""
    return ModelFolder(path.resolve(), f"./{path.resolve().name}", None)


def find_model_folder(model: str, files: Sequence[str]) -> ModelFolder:
    """Find the folder of a model, and fetch it if it is on the Hub.

    Args:
        model: a folder, or NAME or NAME@REVISION on the Hub.
        files: names of the files that are fetched from the Hub, with wildcards.

    Raises:
        ConfigError: it is neither.
        DataNotFoundError: it does not exist, or access is refused.
        RemoteReadError: the Hub could not be reached.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return local_folder(path)
    if path.exists() or not REPOSITORY.fullmatch(model) or model.startswith("."):
        message = (
            f"model={short_repr(model)}: expected a folder, or the name of a model on the Hugging Face Hub (NAME or "
            "NAME@REVISION). Check the spelling."
        )
        raise ConfigError(message)
    name, _, revision = model.partition("@")
    folder = _fetch(name, revision or None, files)
    if not revision and not any(folder.path.rglob("*.safetensors")) and (conversion := _find_conversion(name)):
        folder = _fetch(name, conversion, files)
    return folder


def _fetch(name: str, revision: str | None, files: Sequence[str]) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except GatedRepoError as error:
        message = (
            f"{name}: its owners grant access on request. Ask for it on its page on the Hub, and log in with `hf auth "
            "login`."
        )
        raise DataNotFoundError(message) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = f"revision {revision} of {name}" if isinstance(error, RevisionNotFoundError) else name
        message = (
            f"There is no folder {name} here, and no {what} on the Hugging Face Hub, or it is private. Check the "
            "spelling, or log in with `hf auth login`."
        )
        raise DataNotFoundError(message) from error
    except Exception as error:  # the client's errors of the network are of many types
        message = (
            f"There is no folder {name} here, and the model could not be fetched from the Hugging Face Hub: "
            f"{describe(error)} Try again later, or name the folder of a model."
        )
        raise RemoteReadError(message) from error
    return ModelFolder(path, name, path.name)


def _find_conversion(name: str) -> str | None:
    """Return the revision with the safetensors that the Hub's own robot offers to the owners of a model, if any."""
    from huggingface_hub import HfApi

    author, title = CONVERSION
    try:
        for discussion in HfApi().get_repo_discussions(name, author=author, discussion_type="pull_request"):
            if discussion.title == title and discussion.author == author:
                return discussion.git_reference
    except Exception:  # without it, the error about the missing weights follows
        return None
    return None


def find_weights(folder: ModelFolder) -> list[Path]:
    """Return the safetensors files of a model of transformers.

    Raises:
        BadFileError: it has none, or they are outside of it, or they are not a whole model.
    """
    if folder.has("adapter_config.json"):
        message = f"{folder.path} is an adapter for another model. Merge the two, and save the result."
        raise BadFileError(message)
    names = [WEIGHTS]
    if not folder.has(WEIGHTS) and folder.has(INDEX):
        index = folder.read_json(INDEX)
        parts = index.get("weight_map") if isinstance(index, dict) else None
        names = sorted({str(part) for part in parts.values()}) if isinstance(parts, dict) else []
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            message = f"{folder.path / INDEX}: expected names of safetensors files beside it. Fetch the model again."
            raise BadFileError(message)
    if lacking := [name for name in names if not folder.has(name)]:
        raise make_weights_error(folder.name, lacking[0], any(find_pickles(folder.path)))
    return [folder.path / name for name in names]


def find_pickles(path: Path) -> Iterator[Path]:
    """Yield the files of weights in a folder that can contain programs."""
    return (file for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt") for file in path.glob(pattern))


def make_weights_error(name: str, lacking: str, pickles: bool) -> BadFileError:
    """Make the error for a model without safetensors."""
    why = " It has weights in another format, which can contain programs and is never read." if pickles else ""
    do = (
        "Save the model again with save_pretrained, or name a revision that has safetensors (NAME@REVISION, for "
        "example a pull request, refs/pr/NUMBER)."
    )
    return BadFileError(f"{name} has no {lacking}.{why} {do}")


def check_config(folder: ModelFolder) -> None:
    """Check that a model's configuration asks for no downloads of its own.

    Raises:
        BadFileError: it names kernels to be fetched, or has quantised weights, whose kernels are fetched.
    """
    todo = [folder.read_json("config.json")]
    while todo:
        value = todo.pop()
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, inner in pairs:
            asks = isinstance(inner, str) and str(name).endswith("_implementation") and "/" in inner
            if asks or (name == "quantization_config" and inner):
                message = (
                    f"{folder.path / 'config.json'} asks for code outside of transformers ({name}), which is never "
                    "fetched. Remove it there, or choose a model with weights in full precision."
                )
                raise BadFileError(message)
            todo.append(inner)
