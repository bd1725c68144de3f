# Written by tests/support/stubs.py.
from typing import Any
import datasets
from _newsclippings.builder import NewsCLIPpingsConfig, as_messages, join_images, join_vectors, load
from _newsclippings.check import Report, verify, verify_built
from _newsclippings.embed import EmbedReport, Encoder, EntitiesCheck, EntitiesReport, EntityModel, VectorsReport, embed, entities, verify_entities, verify_vectors
from _newsclippings.errors import BadFileError, BadPickleError, BadTarError, ConfigError, DataNotFoundError, HubError, MissingDataError, MissingDependencyError, NewsCLIPpingsError, NoSpaceError, RemoteReadError, RemoteWriteError, UnsafePathError
from _newsclippings.evaluate import Evaluation, compute_metrics, evaluate
from _newsclippings.generate import GeneratedReport, GenerateReport, Method, Recipe, Rule, generate, verify_generated
from _newsclippings.pictures import decode_small
from _newsclippings.show import show
from _newsclippings.suite import Benchmark, as_if_unlabelled, benchmark, evaluate_on, find_overlap, measure_leak, open_test_set
from _newsclippings.train import predict
from _newsclippings.vectors import read_embeddings, read_faces
__all__ = ['BadFileError', 'BadPickleError', 'BadTarError', 'Benchmark', 'ConfigError', 'DataNotFoundError', 'EmbedReport', 'Encoder', 'EntitiesCheck', 'EntitiesReport', 'EntityModel', 'Evaluation', 'GenerateReport', 'GeneratedReport', 'HubError', 'Method', 'MissingDataError', 'MissingDependencyError', 'NewsCLIPpings', 'NewsCLIPpingsConfig', 'NewsCLIPpingsError', 'NoSpaceError', 'Recipe', 'RemoteReadError', 'RemoteWriteError', 'Report', 'Rule', 'UnsafePathError', 'VectorsReport', 'as_if_unlabelled', 'as_messages', 'benchmark', 'compute_metrics', 'decode_small', 'embed', 'entities', 'evaluate', 'evaluate_on', 'find_overlap', 'generate', 'join_images', 'join_vectors', 'load', 'measure_leak', 'open_test_set', 'predict', 'read_embeddings', 'read_faces', 'show', 'verify', 'verify_built', 'verify_entities', 'verify_generated', 'verify_vectors']
__version__: str
class NewsCLIPpings(datasets.ArrowBasedBuilder, datasets.GeneratorBasedBuilder):
    config: NewsCLIPpingsConfig

    def __init__(self, *cache_dir: Any, **arguments: Any) -> None:
        ...

    @property
    def join_reports(self) -> dict[str, Any]:
        ...

    def download_and_prepare(self, output_dir: str | None=..., download_config: Any=..., download_mode: Any=..., **kwargs: Any) -> None:
        ...

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        ...

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        ...

    def count_rows(self, split: str) -> int:
        ...
