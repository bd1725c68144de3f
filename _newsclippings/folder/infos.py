"""dataset_infos.json: the columns and the published counts of every config, generated from the tables of facts.py."""

import json
from pathlib import Path
from typing import Any

from _newsclippings.facts import CITATION, CONFIGS, DESCRIPTION, HOMEPAGE, LICENSE, ROWS, VERSION, columns_of


def dataset_infos() -> dict[str, Any]:
    """Config -> dataset info in the form that `datasets` reads; splits without a published count are left out."""
    features = columns_of()
    return {
        config: {
            "description": f"{DESCRIPTION} {description}",
            "citation": CITATION,
            "homepage": HOMEPAGE,
            "license": LICENSE,
            "features": features,
            "builder_name": "newsclippings",
            "dataset_name": "newsclippings",
            "config_name": config,
            "version": VERSION,
            "splits": {
                split: {"name": split, "num_examples": rows, "dataset_name": "newsclippings"}
                for split, rows in ROWS[config].items()
                if rows is not None
            },
        }
        for config, description in CONFIGS.items()
    }


def dataset_infos_text() -> str:
    """The whole file."""
    return json.dumps(dataset_infos(), indent=1, ensure_ascii=False) + "\n"


def is_current(file: Path) -> bool:
    """Whether a file agrees with the tables."""
    return file.is_file() and file.read_bytes() == dataset_infos_text().encode()
