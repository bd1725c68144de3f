"""A result in the form in which the Hub reads it: an entry of `.eval_results` of a model's repository."""

import os
from typing import Any, Final

from _newsclippings.facts import ENV_DATA_DIR, HUB_REVISION, VERSION

HUB_RESULT: Final = ".eval_results/newsclippings.yaml"
HUB_RESULT_MARKS: Final = (b"  task_id: ", b"  notes: newsclippings ")


def format_hub_result(config: str, accuracy: float, notes: str, place: str, revision: str | None) -> str:
    """Make the YAML of one entry: the accuracy on the test split of a config.

    Args:
        config: its name, which is the id of the task.
        accuracy: a share.
        notes: how it was measured.
        place: the repository of the data.
        revision: its revision, if the data were read from there.
    """
    import yaml

    dataset: dict[str, Any] = {"id": place, "task_id": config, **({"revision": revision} if revision else {})}
    entry = {"dataset": dataset, "value": accuracy, "notes": f"newsclippings {VERSION}, accuracy, {notes}"}
    return str(yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=1_000))


def official_revision(data_dir: object) -> str | None:
    """Return the revision of `HUB_REPO` that matches are read from; None if they are read from a folder."""
    return HUB_REVISION if data_dir is None and not os.environ.get(ENV_DATA_DIR) else None
