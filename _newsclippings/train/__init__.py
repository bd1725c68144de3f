"""Train and evaluate classifiers for the paper's benchmark: does a picture belong to its caption?

torch and other large packages are imported when a function is called.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from _newsclippings.errors import MissingDependencyError
from _newsclippings.train.auto import make_known_to_transformers
from _newsclippings.train.options import Options, UsageError, describe_defaults, describe_options

__all__ = [
    "Options",
    "UsageError",
    "describe_defaults",
    "describe_options",
    "make_known_to_transformers",
    "predict",
    "run",
    "train",
]

_TO_PREDICT = ("torch", "transformers", "safetensors")
_EXTRA = (*_TO_PREDICT, "accelerate", "matplotlib")


def predict(model: Any, caption: str | Sequence[str], picture: Any) -> Any:
    """Compute the probability that a picture does not belong to its caption, for pairs of your own.

    Args:
        model: the folder of a run of `newsclippings train`, or of a checkpoint in it; the name of a run on the Hub; or
            what `AutoModel.from_pretrained` returns for a run, which is loaded once for many calls. It is used where
            it is; one that is loaded here goes to a GPU if there is one.
        caption: the caption, or a list of captions.
        picture: the picture as a path, as the bytes of a file, or as an image of Pillow; or a list of them, as many as
            captions. A path or bytes give exactly the pixels of the training. Pillow decodes a large JPEG at full
            size, so that its image may give a probability that differs a little.

    Returns:
        The probability of falsified, 0 to 1; a list of them for lists. They are the scores of `newsclippings train
        --eval_only` in the same batches of 8; in other batches the last digits may differ, as everywhere in torch.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
        ConfigError: the model takes vectors, or a value is of another type than expected.
        BadFileError: a picture is broken.
        DataNotFoundError: a picture or the run is not there.
        ValueError: the run is damaged.
    """
    _require(_TO_PREDICT, "A prediction")
    from _newsclippings.train.pairs import predict_pairs

    return predict_pairs(model, caption, picture)


def train(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate a classifier.

    Args:
        arguments: flags of `newsclippings train`.

    Returns:
        The measures on test, in the form of `newsclippings evaluate --format json` (with several configs, by config;
        with --seeds of all runs); empty in all processes of `torchrun` but the first.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
        NewsCLIPpingsError, ValueError, OSError: something is missing, damaged or contradictory.
    """
    _require(_EXTRA, "Training")
    from _newsclippings.train.command import main

    return main(arguments)


def run(arguments: list[str], show: bool = True) -> tuple[dict[str, Any], OSError | None]:
    """Train and evaluate as a program, and print the reports.

    Args:
        arguments: flags of `newsclippings train`.
        show: False: print nothing to standard output.

    Returns:
        What `train` returns, with the `folder` and the `files` of the reports; and the first failure to print, which
        does not end a run.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
        NewsCLIPpingsError, ValueError, OSError: something is missing, damaged or contradictory.
    """
    _require(_EXTRA, "Training")
    from _newsclippings.train.command import run_command

    return run_command(arguments, show)


def _require(names: tuple[str, ...], what: str) -> None:
    lacking = [name for name in names if find_spec(name) is None]
    if lacking:
        message = (
            f"{what} needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed: "
            "pip install 'newsclippings[train]'."
        )
        raise MissingDependencyError(message)
