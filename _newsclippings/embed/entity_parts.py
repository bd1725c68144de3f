"""The plan and the parts of a folder of entities."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from _newsclippings.embed.entity_models import Entity
from _newsclippings.embed.folder import Form, write_facts
from _newsclippings.tables import Int64s, array_of, as_array
from _newsclippings.vectors import OF_PARTS, PLAN, SUMS, format_plan, list_parts, parse_fields

KIND: Final = "entities"  # in the plan, by which it differs from that of vectors
_DO = "Make the folder again with `newsclippings entities`, or name another one."


@dataclass(frozen=True)
class EntityPlan:
    """What the entities of a folder are.

    Attributes:
        linked: whether there is a column `linked`.
        count: how many ids of captions there are, also those that turn out to have no record.
        ids_sha256: SHA-256 of the ids, as int64, little-endian, in ascending order.
        part_size: ids of a part; the last one may have fewer.
        model: facts of the model: its name, version, SHA-256 of the weights; of the aliases; of the captions.
        kind: `KIND`.
    """

    linked: bool
    count: int
    ids_sha256: str
    part_size: int
    model: dict[str, Any]
    kind: str = KIND

    @property
    def parts(self) -> list[str]:
        """The names of all parts."""
        return list_parts(self.count, self.part_size)

    def to_json(self) -> str:
        """Return the content of plan.json."""
        return format_plan(asdict(self))


def make_columns(ids: Int64s, found: list[list[Entity]], linked: bool) -> list[pa.Array]:
    """Make the columns of a part."""
    schema = _SCHEMA if not linked else _LINKED
    lists = [[{"text": entity.text, "label": entity.label} for entity in entities] for entities in found]
    columns = [as_array(ids), array_of(lists, schema.field(KIND).type)]
    if linked:
        columns.append(
            array_of([[entity.id for entity in entities] for entities in found], schema.field("linked").type)
        )
    return columns


def _parse(text: bytes, location: str) -> EntityPlan:
    checks = {
        "kind": lambda value: value == KIND,
        "linked": lambda value: isinstance(value, bool),
        **OF_PARTS,
        "model": lambda value: isinstance(value, dict),
    }
    return EntityPlan(**parse_fields(text, location, "the plan of a folder of entities", _DO, checks))


# As in the authors' metadata: `caption_entities_spacy`
_SCHEMA = pa.schema([("id", pa.int64()), (KIND, pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())])))])
_LINKED = _SCHEMA.append(pa.field("linked", pa.list_(pa.string())))


def _make_schema(plan: EntityPlan) -> pa.Schema:
    return _LINKED if plan.linked else _SCHEMA


def _describe(plan: EntityPlan, unread: dict[str, int]) -> str:
    """Write the README of a folder: what the entities are, and how to use them."""
    facts = {
        "model": plan.model.get("model"),
        "version": plan.model.get("version") or "not known",
        "captions": f"{plan.count:,}",
        "without a row": "; ".join(f"{count:,}: {reason}" for reason, count in unread.items()) or "none",
    }
    linked = ", and `linked`, the id of each entity, null if it is not known" if plan.linked else ""
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: part-*.parquet
---

# Entities of captions

Written by `newsclippings entities`. {PLAN} has all facts of the model; `sha256sum -c {SUMS}` compares the files.

| | |
|---|---|
{write_facts(facts)}

Each `part-*.parquet` has the columns `id` (of the caption, in ascending order), `entities`, a list of text and label in
the order of the caption, as in the authors' metadata{linked}.
"""


ENTITIES: Final = Form("entities", "entities", _parse, _make_schema, _describe)
