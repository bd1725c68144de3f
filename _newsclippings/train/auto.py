"""Make the classifier known to `AutoConfig`, `AutoModel` and `AutoProcessor`, without importing transformers."""

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final


class AutoClassifier:
    """What `AutoModel` calls for a run. The classifier itself may import modules that are being imported then."""

    @classmethod
    def from_pretrained(cls, place: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the classifier of a run; see `Classifier.from_pretrained`."""
        from _newsclippings.train.model import Classifier

        return Classifier.from_pretrained(place, *args, **kwargs)


class AutoPairProcessor:
    """What `AutoProcessor` calls for a run."""

    @classmethod
    def from_pretrained(cls, place: Any, **kwargs: Any) -> Any:
        """Load the processor of a run; see `Processor.from_pretrained`."""
        from _newsclippings.train.model import load_processor

        return load_processor(place, **kwargs)


def _register_config(module: ModuleType) -> None:
    from _newsclippings.train.classifier_config import MODEL_TYPE, ClassifierConfig

    module.CONFIG_MAPPING.register(MODEL_TYPE, ClassifierConfig, exist_ok=True)


def _register_model(module: ModuleType) -> None:
    from _newsclippings.train.classifier_config import ClassifierConfig

    module.MODEL_MAPPING.register(ClassifierConfig, AutoClassifier, exist_ok=True)


def _register_processor(module: ModuleType) -> None:
    from _newsclippings.train.classifier_config import ClassifierConfig

    module.PROCESSOR_MAPPING.register(ClassifierConfig, AutoPairProcessor, exist_ok=True)


ACTIONS: Final[dict[str, Callable[[ModuleType], None]]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.processing_auto": _register_processor,
}


class _Finder(MetaPathFinder):
    """Find the modules in `ACTIONS` as Python does, and act right after each was imported."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in ACTIONS else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _act(name, module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _act(name: str, module: ModuleType) -> None:
    with suppress(ImportError, AttributeError):  # a version of transformers without these classes, which is too old
        ACTIONS[name](module)


def make_known_to_transformers() -> None:
    """Register the classifier at the `Auto` classes that are imported already, and at the others once they are."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for name, module in [(name, sys.modules[name]) for name in ACTIONS if name in sys.modules]:
        if not getattr(module.__spec__, "_initializing", False):
            _act(name, module)
