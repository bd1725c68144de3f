"""The plan of a folder of vectors: which encoder made them, of what, and in which parts.

A folder of vectors has plan.json, parts `part-00000.parquet`, `part-00001.parquet`, ... of a fixed number of ids in
ascending order, and, when it is complete, SHA256SUMS and a README.md.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.facts import SIDES, VECTOR_DTYPES
from _newsclippings.storage import DECODER, describe_json_error

PLAN: Final = "plan.json"
SUMS: Final = "SHA256SUMS"
FORMAT: Final = 1  # of the folder; a reader refuses a higher one
MOST_ID: Final = (1 << 63) - 1
MOST_PARTS: Final = 100_000
MOST_WIDTH: Final = 1 << 20  # numbers of a vector
UNREAD: Final = b"unread"  # key in the metadata of a part: JSON, reason -> ids without a vector
_DO = "Fetch the folder again, or make it again with `newsclippings embed`."


@dataclass(frozen=True)
class Plan:
    """What the vectors of a folder are.

    Attributes:
        of: `"pictures"` (their ids are image_id) or `"captions"` (id).
        width: numbers of a vector.
        dtype: `"float32"` or `"float16"`.
        several: whether an id has any number of vectors (one per face, for example), and not one.
        normalised: whether the vectors have length 1.
        count: how many ids there are, also those that turn out to have no vector.
        ids_sha256: SHA-256 of the ids, as int64, little-endian, in ascending order.
        part_size: ids of a part; the last one may have fewer.
        encoder: facts of the encoder: model, revision, SHA-256 of the weights, preprocessing, versions, ...
    """

    of: str
    width: int
    dtype: str
    several: bool
    normalised: bool
    count: int
    ids_sha256: str
    part_size: int
    encoder: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """The names of all parts."""
        return list_parts(self.count, self.part_size)

    def to_json(self) -> str:
        """Return the content of plan.json."""
        return format_plan(asdict(self))


def format_plan(values: Mapping[str, Any]) -> str:
    """Return the content of plan.json with these values."""
    return json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n"


def list_parts(count: int, size: int) -> list[str]:
    """Return the names of all parts of `count` ids, `size` in each."""
    return [name_part(number) for number in range(-(-count // size))]


def name_part(number: int) -> str:
    """Return the name of the file of a part."""
    return f"part-{number:05d}.parquet"


def parse_plan(text: bytes, location: str) -> Plan:
    """Read a plan, which may come from anyone.

    Args:
        text: the content of plan.json.
        location: where it comes from, for errors.

    Raises:
        BadFileError: it is not a plan, or one of a newer version.
    """
    return Plan(
        **parse_fields(
            text,
            location,
            "the plan of a folder of vectors",
            _DO,
            {
                "of": lambda value: value in (*SIDES,),
                "width": lambda value: _is_count(value, 1, MOST_WIDTH),
                "dtype": lambda value: value in VECTOR_DTYPES,
                "several": lambda value: isinstance(value, bool),
                "normalised": lambda value: isinstance(value, bool),
                **OF_PARTS,
                "encoder": lambda value: isinstance(value, dict),
            },
        )
    )


def parse_fields(
    text: bytes, location: str, what: str, do: str, checks: Mapping[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    """Read a plan.json, which may come from anyone.

    Args:
        text: its content.
        location: where it comes from, for errors.
        what: what it should be, for errors.
        do: what to do if it is something else, for errors.
        checks: name of a field -> whether a value is one. They include `OF_PARTS`.

    Raises:
        BadFileError: it is something else, or of a newer version.
    """
    try:
        values = DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise bad_file(location, what, describe_json_error(error), do) from None
    if isinstance(values, dict) and type(values.get("format")) is int and values["format"] > FORMAT:
        message = f"{location}: made by a newer version of newsclippings. Install that: pip install -U newsclippings."
        raise BadFileError(message)
    given: dict[str, Any] = {name: values.get(name) if isinstance(values, dict) else None for name in checks}
    wrong = [name for name, is_right in checks.items() if not is_right(given[name])]
    if not wrong and -(-given["count"] // given["part_size"]) > MOST_PARTS:
        wrong = ["part_size"]
    if wrong:
        raise bad_file(location, what, f'"{wrong[0]}": {json.dumps(given[wrong[0]], default=str)[:80]}', do)
    return given


def parse_sums(text: bytes, location: str) -> dict[str, str]:
    """Read SHA256SUMS: name -> SHA-256.

    Raises:
        BadFileError: it is something else.
    """
    lines = text.decode("utf-8", "replace").splitlines()
    sums = [re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines]
    if not sums or None in sums:
        do = "Remove it, and run the same `newsclippings embed` again."
        raise bad_file(location, "a list of SHA-256 sums", "something else", do)
    return {line[2]: line[1] for line in sums if line}


def parse_unread(metadata: Mapping[bytes, bytes], location: str) -> dict[str, list[int]]:
    """Read from the metadata of a part which ids have no vector: reason -> ids.

    Raises:
        BadFileError: it is something else.
    """
    try:
        unread = DECODER.decode(metadata.get(UNREAD, b"{}").decode())
        lists = [*unread.values()]
        if all(isinstance(ids, list) and all(_is_count(each, -MOST_ID, MOST_ID) for each in ids) for ids in lists):
            return dict(unread)
        found = "something else"
    except (ValueError, RecursionError) as error:
        found = describe_json_error(error)
    except AttributeError:
        found = "something else"
    raise bad_file(location, "ids without a vector, by reason, in its metadata", found, _DO)


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


OF_PARTS: Final[dict[str, Callable[[Any], bool]]] = {  # fields of the plan of any folder in parts
    "count": lambda value: _is_count(value, 1, 1 << 40),
    "ids_sha256": lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)),
    "part_size": lambda value: _is_count(value, 1, 1 << 24),
}
