"""Croissant metadata of a built folder: JSON-LD after http://mlcommons.org/croissant/1.1.

Paths are relative to the folder, so that the same file serves on a disk and in a dataset repository.
"""

from typing import Any

from _newsclippings.facts import CITATION, COLUMNS, DESCRIPTION, EMBEDDINGS, HOMEPAGE, LICENSE, TEXTS
from _newsclippings.folder.built_folder import SUMS, BuiltFolder
from _newsclippings.folder.card import PAIRS_FILE, README, TAGS
from _newsclippings.folder.hub_benchmark import EVAL
from _newsclippings.folder.manifest import Manifest, ShardEntry
from _newsclippings.storage import Place, outputs, write_text
from _newsclippings.text import format_json

CROISSANT = "croissant.json"
BESIDE = (README, "dataset_infos.json", PAIRS_FILE, SUMS, CROISSANT, EVAL)  # files beside the configs of a folder
PARQUET = "application/x-parquet"
PUBLISHED = "2021-11-07"  # first day of EMNLP 2021
AUTHORS = ("Grace Luo", "Trevor Darrell", "Anna Rohrbach")  # of the matches

# All terms that the specification abbreviates: readers warn where one is missing.
TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {term: f"cr:{term}" for term in TERMS.split()}

TYPES = {
    "bool": "sc:Boolean",
    **dict.fromkeys(("float16", "float32", "float64"), "sc:Float"),
    **dict.fromkeys(("int32", "int64"), "sc:Integer"),
    "string": "sc:Text",
    "timestamp[s, tz=UTC]": "sc:DateTime",
}
MEANINGS = {name: meaning for name, (_, meaning) in (COLUMNS | TEXTS).items()} | {
    kind: f"{facts.meaning} {facts.width} values." for kind, facts in EMBEDDINGS.items()
}

Node = dict[str, Any]


def write_croissant(folder: BuiltFolder, file: Place | None = None) -> Place:
    """Write the metadata of a folder.

    Args:
        folder: the folder.
        file: the file to write. Default: croissant.json in the folder.

    Returns:
        The file.

    Raises:
        ConfigError: it is in the folder of a config, or was not written by this.
    """
    file = file or folder.root / CROISSANT
    outputs.check_not_input(file, [folder.root / config for config in folder.manifests])
    outputs.check_output(file, outputs.CROISSANT)
    write_text(file, croissant_text(folder), outputs.CROISSANT)
    return file


def croissant_text(folder: BuiltFolder) -> str:
    """The text that `write_croissant` writes: the same for the same manifests."""
    manifests = folder.manifests.values()
    labels = {
        name: feature["names"]
        for manifest in manifests
        for name, feature in manifest.features.items()
        if "names" in feature
    }
    # Records are read from file sets, one per config: a field has one source, and mlcroissant reads a set file by file.
    # A set has no checksums: those are in the file objects, one per file, which no records are read from.
    metadata = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": "NewsCLIPpings",
        "description": DESCRIPTION,
        "license": {"@type": "sc:CreativeWork", "description": LICENSE},
        "url": HOMEPAGE,
        "creator": [{"@type": "sc:Person", "name": name} for name in AUTHORS],
        "citeAs": CITATION,
        "datePublished": PUBLISHED,
        "version": next(iter(manifests)).version,
        "inLanguage": "en",
        "keywords": TAGS,
        "distribution": [*map(_file_set, manifests), *map(_file_object, folder.shards)],
        "recordSet": [
            *map(_record_set, manifests),
            *(_enumeration(name, names) for name, names in labels.items()),
        ],
    }
    return format_json(metadata)


def _file_set(manifest: Manifest) -> Node:
    return {
        **_named("cr:FileSet", f"{manifest.config}-files"),
        "encodingFormat": PARQUET,
        "includes": [f"{manifest.config}/{split}-*.parquet" for split in manifest.splits],
    }


def _file_object(shard: ShardEntry) -> Node:
    return {
        **_named("cr:FileObject", shard.path),
        "contentUrl": shard.path,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": shard.sha256,
    }


def _record_set(manifest: Manifest) -> Node:
    config = manifest.config
    split = {
        **_named("cr:Field", f"{config}/split", "split"),
        "description": "Name of the split, with which the names of its files begin.",
        "dataType": "sc:Text",
        "source": {
            **_source(config, fileProperty="filename"),
            "transform": {"regex": rf"^({'|'.join(manifest.splits)})-.+\.parquet$"},
        },
    }
    first = next(iter(manifest.features))  # identifies a row in its split
    return {
        **_named("cr:RecordSet", config),
        "description": manifest.description,
        "key": [{"@id": f"{config}/{name}"} for name in ("split", first)],
        "field": [split, *(_column(manifest, name) for name in manifest.features)],
    }


def _enumeration(name: str, names: list[str]) -> Node:
    """The names of a column's values.

    The column's description names it, and no `references` does: that is a join, for which mlcroissant would hold a
    whole config in memory, pictures and all.
    """
    columns = {"value": "sc:Integer", "name": "sc:Text"}
    return {
        **_named("cr:RecordSet", name),
        "description": f"Names of the values of `{name}`.",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{name}/value"},
        "field": [
            {**_named("cr:Field", f"{name}/{column}", column), "dataType": kind} for column, kind in columns.items()
        ],
        "data": [{f"{name}/value": value, f"{name}/name": text} for value, text in enumerate(names)],
    }


def _column(manifest: Manifest, name: str) -> Node:
    node, own = _field(manifest.config, (name,), manifest.features[name]), manifest.vectors.get(name)
    names = f" Names: record set `{name}`." if "names" in manifest.features[name] else ""
    node["description"] = (MEANINGS[name] if own is None else f"{own.meaning} {own.width} values.") + names
    return node


def _field(config: str, path: tuple[str, ...], feature: Any) -> Node:
    """A column, or a field inside a column of structs.

    Args:
        config: name of the record set.
        path: name of the column, then the names of fields within it.
        feature: its type, as in a manifest.
    """
    node = _named("cr:Field", "/".join((config, *path)), path[-1])
    steps = path[1:]
    while isinstance(feature, list) or feature.get("_type") == "Sequence":
        node["repeated"] = True  # also lists of lists, for which Croissant 1.0 has no term
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    if "_type" not in feature:
        return node | {"subField": [_field(config, (*path, name), inner) for name, inner in feature.items()]}
    if feature["_type"] == "Image":
        node["dataType"], steps = "sc:ImageObject", ("bytes",)
    else:
        node["dataType"] = TYPES[feature["dtype"]] if feature["_type"] == "Value" else "sc:Integer"
    node["source"] = _source(config, column=path[0])
    if steps:  # separately: of a path of several steps, mlcroissant reads only the first of a list
        node["source"]["transform"] = [{"jsonPath": step} for step in steps]
    return node


def _source(config: str, **extract: str) -> Node:
    return {"fileSet": {"@id": f"{config}-files"}, "extract": extract}


def _named(kind: str, identifier: str, name: str | None = None) -> Node:
    return {"@type": kind, "@id": identifier, "name": name or identifier}
