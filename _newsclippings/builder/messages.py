"""Rows as chats with pictures, which trainers of language models take."""

from dataclasses import dataclass
from typing import Any

from _newsclippings.errors import ConfigError, MissingDataError
from _newsclippings.export import PROMPT, check_prompt, make_messages
from _newsclippings.text import option


def as_messages(dataset: Any, prompt: str = PROMPT) -> Any:
    """Turn rows into chats: the picture and a question, and the answer `pristine` or `falsified`.

    `trl.SFTTrainer` trains on the result, and `newsclippings evaluate` reads the answers of a model as
    `label_predicted`, beside `index`.

    Args:
        dataset: rows with pictures: a `datasets.Dataset`, a stream (`IterableDataset`), or a dict of them.
        prompt: the question, with `{caption}` in the place of the caption.

    Returns:
        The same kind, with the columns `index`, `messages` (as `apply_chat_template` of transformers takes them) and
        `images` (a list of one picture, as encoded as it was).

    Raises:
        ConfigError: the rows have no pictures, or the prompt has no `{caption}`.
        MissingDataError: a row has no caption or no picture; of a stream, when it is read.
    """
    from datasets import Dataset, DatasetDict, Features, Image, IterableDataset, IterableDatasetDict, List, Value

    check_prompt(prompt)
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        return type(dataset)({split: as_messages(rows, prompt) for split, rows in dataset.items()})
    if not isinstance(dataset, Dataset | IterableDataset):
        message = f"as_messages: expected a Dataset, a stream, or a dict of them, found {type(dataset).__name__}."
        raise ConfigError(message)
    columns = dataset.features or {}
    if lacking := [name for name in ("index", "caption", "image", "falsified") if name not in columns]:
        message = (
            f"as_messages: the rows have no column {lacking[0]}. Pass rows of `newsclippings.load` with "
            f"{option('images', 'bytes')} or 'path', before `.map`."
        )
        raise ConfigError(message)
    text = Value("string")
    features = Features(
        {
            "index": columns["index"],
            "messages": List({"role": text, "content": List({"type": text, "text": text})}),
            "images": List(Image()),
        }
    )
    encoded = dataset.select_columns(["index", "caption", "image", "falsified"])
    encoded = encoded.cast_column("image", Image(decode=False))  # so that no picture is encoded again
    how: dict[str, Any] = {"remove_columns": ["caption", "image", "falsified"]}
    if isinstance(dataset, Dataset):
        return encoded.map(_Chat(prompt), features=features, **how)
    return encoded.map(_Chat(prompt), **how).cast(features)  # with `features=`, the pictures would stay encoded


@dataclass(frozen=True)
class _Chat:
    """Makes the chat of a row."""

    prompt: str

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["caption"] is None or row["image"] is None:
            what = "caption" if row["caption"] is None else "picture"
            problem = f"row {row['index']} has no {what}, so it cannot be a chat. Build with missing='drop_pair'."
            raise MissingDataError(problem)
        messages = make_messages(self.prompt, row["caption"], row["falsified"])
        for message in messages:  # all parts have the same keys, as a table needs
            message["content"] = [{"type": part["type"], "text": part.get("text")} for part in message["content"]]
        return {"index": row["index"], "messages": messages, "images": [row["image"]]}
