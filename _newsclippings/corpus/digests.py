"""Digests of records, by which a generated config notices another corpus."""

import hashlib
import json

import pyarrow as pa

from _newsclippings.corpus.records import SCHEMA
from _newsclippings.errors import BadFileError
from _newsclippings.inputs import Inputs
from _newsclippings.text import option

_BLOCK = 1 << 14  # records that are hashed at a time


def hash_records(records: pa.Table) -> str:
    """Return the SHA-256 of records: of their ids, captions, paths, outlets and topics, in the order of the table."""
    digest = hashlib.sha256()
    for start in range(0, len(records), _BLOCK):
        some = records.slice(start, _BLOCK)
        digest.update(json.dumps([some[name].to_pylist() for name in SCHEMA.names]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def check_records(inputs: Inputs, split: str, records: pa.Table) -> None:
    """Check that the records of a split of a generated config are those of the corpus that it was made from.

    Args:
        inputs: the inputs of the config; nothing is checked for an official one.
        split: name of the split.
        records: all records that its matches refer to, sorted by id.

    Raises:
        BadFileError: they are others.
    """
    made = inputs.generated
    if made is not None and hash_records(records) != made.splits[split].records_sha256:
        place = inputs.data_json or inputs.places or "the metadata"
        message = (
            f"{made.config} was made from another corpus than {place}: the captions or pictures of {split} are not the "
            f"same. Pass the one that it was made from as {option('visual_news')}."
        )
        raise BadFileError(message)
