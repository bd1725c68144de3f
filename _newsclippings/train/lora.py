"""Low-rank adapters (LoRA) of the backbone, made by PEFT and merged into its weights at the end."""

from importlib.util import find_spec
from typing import Any, Final

from torch import nn

from _newsclippings.errors import MissingDependencyError

# The matrices of attention in CLIP, SigLIP and MetaCLIP; in AltCLIP and Chinese-CLIP also those of BERT
TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "query", "key", "value")


def require_peft() -> None:
    """Raise `MissingDependencyError` if PEFT is not installed."""
    if find_spec("peft") is None:
        message = "--lora needs peft, which is not installed: pip install 'newsclippings[lora]'."
        raise MissingDependencyError(message)


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Add a pair of matrices of this rank to each matrix of attention; nothing else of the backbone is trained.

    Raises:
        MissingDependencyError: the extra `lora` is not installed.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model

    names = {name.rpartition(".")[2] for name, part in backbone.named_modules() if isinstance(part, nn.Linear)}
    targets = sorted(names & {*TARGETS})
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), backbone)


def merge_adapters(backbone: Any) -> None:
    """Add the products of the pairs to the matrices, and remove the pairs."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, part in [*backbone.named_modules()]:
        if isinstance(part, BaseTunerLayer):
            part.merge()
            backbone.set_submodule(name, part.get_base_layer())
