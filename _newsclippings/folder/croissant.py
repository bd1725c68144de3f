"""Croissant metadata of a folder that `newsclippings build` wrote: JSON-LD after http://mlcommons.org/croissant/1.0.

Places are relative to the folder, so that the same file serves on a disk and in a dataset repository.
"""

from pathlib import Path
from typing import Any

from _newsclippings.facts import CITATION, COLUMNS, DESCRIPTION, EMBEDDINGS, HOMEPAGE, LICENSE, TEXTS
from _newsclippings.folder.card import PICTURE, TAGS
from _newsclippings.folder.checksums import SUMS
from _newsclippings.folder.manifest import manifests
from _newsclippings.storage import outputs, write_text
from _newsclippings.text import json_text

CROISSANT = "croissant.json"
BESIDE = ("README.md", "dataset_infos.json", PICTURE, SUMS, CROISSANT)  # the configs of a folder
PARQUET = "application/x-parquet"
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
    **dict.fromkeys(("float32", "float64"), "sc:Float"),
    **dict.fromkeys(("int32", "int64"), "sc:Integer"),
    "string": "sc:Text",
    "timestamp[s, tz=UTC]": "sc:DateTime",
}
MEANINGS = {name: meaning for name, (_, meaning) in (COLUMNS | TEXTS).items()} | {
    kind: f"{about.meaning} {about.width} values." for kind, about in EMBEDDINGS.items()
}

Node = dict[str, Any]


def write_croissant(folder: Path, file: Path | None = None) -> Path:
    """Write the metadata of a folder.

    Args:
        folder: what `newsclippings build` wrote.
        file: where to. Default: croissant.json in the folder.

    Returns:
        Where it was written.

    Raises:
        BadFileError: the folder has no config with a manifest.
    """
    file = file or folder / CROISSANT
    outputs.check_apart(file, [str(folder / config) for config in manifests(folder)])
    outputs.check_output(file, outputs.CROISSANT)
    write_text(file, croissant_text(folder), outputs.CROISSANT)
    return file


def croissant_text(folder: Path) -> str:
    """What `write_croissant` writes: the same for the same manifests."""
    built = manifests(folder)
    labels = {
        name: feature["names"]
        for manifest in built.values()
        for name, feature in manifest["features"].items()
        if "names" in feature
    }
    # Records are read from file sets, one per config: a field has one source, and mlcroissant reads a set file by file.
    # A set knows no checksums; those are at the file objects, one per file, which nothing is read from.
    metadata = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "NewsCLIPpings",
        "description": DESCRIPTION,
        "license": {"@type": "sc:CreativeWork", "description": LICENSE},
        "url": HOMEPAGE,
        "creator": [{"@type": "sc:Person", "name": name} for name in AUTHORS],
        "citeAs": CITATION,
        "version": next(iter(built.values()))["version"],
        "inLanguage": "en",
        "keywords": TAGS,
        "distribution": [
            *(_file_set(config, manifest) for config, manifest in built.items()),
            *(
                _file_object(f"{config}/{name}", about)
                for config, manifest in built.items()
                for name, about in manifest["files"].items()
            ),
        ],
        "recordSet": [
            *(_record_set(config, manifest) for config, manifest in built.items()),
            *(_enumeration(name, names) for name, names in labels.items()),
        ],
    }
    return json_text(metadata)


def _file_set(config: str, manifest: Node) -> Node:
    return {
        **_named("cr:FileSet", f"{config}-files"),
        "encodingFormat": PARQUET,
        "includes": [f"{config}/{split}-*.parquet" for split in manifest["splits"]],
    }


def _file_object(place: str, about: Node) -> Node:
    return {
        **_named("cr:FileObject", place),
        "contentUrl": place,
        "contentSize": f"{about['bytes']} B",
        "encodingFormat": PARQUET,
        "sha256": about["sha256"],
    }


def _record_set(config: str, manifest: Node) -> Node:
    split = {
        **_named("cr:Field", f"{config}/split", "split"),
        "description": "Name of the split, with which the names of its files begin.",
        "dataType": "sc:Text",
        "source": {
            **_source(config, fileProperty="filename"),
            "transform": {"regex": rf"^({'|'.join(manifest['splits'])})-.+\.parquet$"},
        },
    }
    first = next(iter(manifest["features"]))  # by which the rows of a split are told apart
    return {
        **_named("cr:RecordSet", config),
        "description": manifest["description"],
        "key": [{"@id": f"{config}/{name}"} for name in ("split", first)],
        "field": [split, *(_field(config, (name,), feature) for name, feature in manifest["features"].items())],
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


def _field(config: str, path: tuple[str, ...], feature: Any) -> Node:
    """A column, or what is at a path in a column of structs.

    Args:
        config: of which record set.
        path: name of the column, then those of fields within it.
        feature: its type, as a manifest has it: plain values of `datasets` features.
    """
    node = _named("cr:Field", "/".join((config, *path)), path[-1])
    steps = path[1:]
    if not steps:
        names = f" Names: record set `{path[0]}`." if "names" in feature else ""
        node["description"] = MEANINGS[path[0]] + names
    while isinstance(feature, list) or feature.get("_type") == "Sequence":
        node["repeated"] = True  # lists of lists, too, for which Croissant 1.0 has no word of its own
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    if "_type" not in feature:
        return node | {"subField": [_field(config, (*path, name), inner) for name, inner in feature.items()]}
    if feature["_type"] == "Image":
        node["dataType"], steps = "sc:ImageObject", ("bytes",)
    else:
        node["dataType"] = TYPES[feature["dtype"]] if feature["_type"] == "Value" else "sc:Integer"
    node["source"] = _source(config, column=path[0])
    if steps:  # one by one: a path of several steps gives mlcroissant only the first of a list
        node["source"]["transform"] = [{"jsonPath": step} for step in steps]
    return node


def _source(config: str, **extract: str) -> Node:
    return {"fileSet": {"@id": f"{config}-files"}, "extract": extract}


def _named(kind: str, identifier: str, name: str | None = None) -> Node:
    return {"@type": kind, "@id": identifier, "name": name or identifier}
