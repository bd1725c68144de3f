"""What all encoders need of the libraries that run them: are they installed, their errors, a device, a trial."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

from _newsclippings.embed.encoder import Float32s
from _newsclippings.embed.ranks import find_device
from _newsclippings.errors import BadFileError, ConfigError, MissingDependencyError, NewsCLIPpingsError
from _newsclippings.text import redact

EXTRA = 'pip install "newsclippings[embed]"'
TRIAL_SIDE = 256  # pixels of the blank picture that an encoder is tried on
TRIAL_CAPTION = "A picture."


def require(model: str, names: Sequence[str], install: str) -> None:
    """Check that libraries are installed.

    Args:
        model: what needs them, for the error.
        names: modules that are imported.
        install: the command that installs them.

    Raises:
        MissingDependencyError: one is not installed.
    """
    lacking = [name for name in names if find_spec(name) is None]
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        message = f"{model} needs {' and '.join(lacking)}, which {verb} not installed: {install}."
        raise MissingDependencyError(message)


def find_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of installed distributions by name."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a library that is on the path without being installed
            found[name] = "unknown"
    return found


@contextmanager
def report_library_errors(model: str, what: str) -> Iterator[None]:
    """Re-raise all errors of a library as one-line errors of this package.

    Args:
        model: what was asked for.
        what: what does not work then, for example "cannot be loaded".
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, NewsCLIPpingsError):
        raise
    except BaseException as error:  # panics of Rust libraries are not Exceptions
        message = f"{model} {what}: {describe(error)}"
        raise BadFileError(message) from error


def describe(error: BaseException) -> str:
    """Describe an error of a library in one line that ends with a full stop."""
    text = redact(" ".join(f"{type(error).__name__}: {error}".split()))
    return (text if len(text) <= 300 else text[:297] + "...").rstrip(".") + "."


def pick_device(device: str | None) -> Any:
    """Choose the device that torch runs on.

    Args:
        device: as torch names it; None for a GPU if there is one (on a machine with several, the one of this process
            under `torchrun` or `srun`), else the CPU.

    Returns:
        The `torch.device`.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if device is None:
        device = find_device() or ("cuda:0" if torch.cuda.is_available() and torch.cuda.device_count() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's own words for "not there"
        message = f"device={device!r} cannot be used: {describe(error)} Leave it out, or choose cpu or cuda."
        raise ConfigError(message) from error
    return chosen


def make_blank(of: str) -> Any:
    """Return a grey picture, or a short caption, to try an encoder on."""
    from PIL import Image

    return Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE), "grey") if of == "pictures" else TRIAL_CAPTION


def measure_width(
    model: str, of: str, prepare: Callable[[Any], Any], encode: Callable[[list[Any]], Any], several: bool = False
) -> int:
    """Encode a blank picture or a short caption twice, and return the width of the vectors.

    Args:
        model: for errors.
        of: `"pictures"` or `"captions"`.
        prepare: of the encoder.
        encode: of the encoder.
        several: of the encoder.

    Raises:
        BadFileError: that fails, or gives no vectors, or other ones each time.
    """
    item = make_blank(of)
    with report_library_errors(model, f"cannot encode {of}"):
        first, second = (encode([prepare(item)])[0] for _ in range(2))
    if first.ndim != 1 + several or not first.shape[-1]:
        expected = "(any number, width)" if several else "(width,)"
        message = f"{model}: expected an array of shape {expected} for each item, found {first.shape}."
        raise BadFileError(message)
    if first.shape != second.shape or not np.allclose(first, second, rtol=1e-3, atol=1e-4):
        message = (
            f"{model} returns other vectors each time, so that a run could not be resumed. Turn off what is random in "
            "it (dropout, masking, augmentation)."
        )
        raise BadFileError(message)
    return int(first.shape[-1])


def stack(model: str, items: list[dict[str, Any]], device: Any) -> dict[str, Any]:
    """Make a batch of tensors on a device from items with arrays of equal shapes.

    Raises:
        BadFileError: the shapes differ.
    """
    import torch

    shapes = {name: {item[name].shape for item in items} for name in items[0]}
    if name := next((name for name, several in shapes.items() if len(several) > 1), None):
        message = (
            f"{model}: {name} has another shape for each picture, which does not fit one batch. Choose a model with "
            "pictures of one size, or write an encoder (py:module:function) with batch=1."
        )
        raise BadFileError(message)
    # In memory of torch, whose alignment is always the same: the last digits of a product depend on it.
    return {name: torch.stack([torch.from_numpy(item[name]) for item in items]).to(device) for name in items[0]}


def pad(items: list[dict[str, list[int]]], fills: dict[str, int], left: bool = False) -> list[dict[str, Any]]:
    """Pad the tokens of captions to the longest of a batch.

    Args:
        items: for each caption, lists of equal length by name.
        fills: what each name is padded with; 0 for names that are not there.
        left: whether the padding comes first.

    Returns:
        For each caption, int64 arrays of that length by name.
    """
    most = max(len(values) for item in items for values in item.values())

    def extend(name: str, values: list[int]) -> Any:
        more = [fills.get(name, 0)] * (most - len(values))
        return np.array(more + values if left else values + more, np.int64)

    return [{name: extend(name, values) for name, values in item.items()} for item in items]


def normalise(vectors: Float32s) -> Float32s:
    """Scale vectors (N, width) to length 1; vectors of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32s = (vectors / np.where(lengths, lengths, 1)).astype(np.float32)
    return scaled
