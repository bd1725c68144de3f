"""Code that only `datasets` needs: its name for this dataset, the config, the cache, and errors of its workers."""

from _newsclippings.builder.cache import (
    INFO_FILE,
    check_replaced,
    has_damaged_info,
    is_outdated,
    is_sound,
    load_reports,
    log_reports,
    save_inputs,
    save_proof,
    save_reports,
)
from _newsclippings.builder.config import (
    ConfigsByName,
    NewsCLIPpingsConfig,
    check_arguments,
    dataset_info,
    naming_with,
)
from _newsclippings.builder.failures import check_space_for_pictures, full_disk_error, unwrap_worker_error
from _newsclippings.builder.images import join_images
from _newsclippings.builder.load import load
from _newsclippings.builder.messages import as_messages
from _newsclippings.builder.register import make_name_known
from _newsclippings.builder.vectors import join_vectors

__all__ = [
    "INFO_FILE",
    "ConfigsByName",
    "NewsCLIPpingsConfig",
    "as_messages",
    "check_arguments",
    "check_replaced",
    "check_space_for_pictures",
    "dataset_info",
    "full_disk_error",
    "has_damaged_info",
    "is_outdated",
    "is_sound",
    "join_images",
    "join_vectors",
    "load",
    "load_reports",
    "log_reports",
    "make_name_known",
    "naming_with",
    "save_inputs",
    "save_proof",
    "save_reports",
    "unwrap_worker_error",
]
