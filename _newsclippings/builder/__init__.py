"""What only `datasets` needs: the name, the config, the cache, and failures of its workers."""

from _newsclippings.builder.cache import (
    INFO_FILE,
    check_replaced,
    has_damaged_info,
    is_outdated,
    is_sound,
    load_reports,
    save_inputs,
    save_proof,
    save_reports,
)
from _newsclippings.builder.config import NewsCLIPpingsConfig, check_arguments, dataset_info
from _newsclippings.builder.failures import check_pictures_fit, full_disk, unwrap_worker_error
from _newsclippings.builder.images import join_images
from _newsclippings.builder.register import make_name_known

__all__ = [
    "INFO_FILE",
    "NewsCLIPpingsConfig",
    "check_arguments",
    "check_pictures_fit",
    "check_replaced",
    "dataset_info",
    "full_disk",
    "has_damaged_info",
    "is_outdated",
    "is_sound",
    "join_images",
    "load_reports",
    "make_name_known",
    "save_inputs",
    "save_proof",
    "save_reports",
    "unwrap_worker_error",
]
