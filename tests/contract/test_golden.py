"""Golden digests: no change of the code changes a byte of these rows.

The digests without metadata were taken from version 1.0.0; those with metadata from version 1.1.0, whose rows are those
of 1.0.0 if the fields that it added are left out. A deliberate change of rows raises `VERSION` and takes new digests,
which the failing tests print.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.reading import load, raw
from support.vectors import make_plan, write
from support.world import CONFIGS, SPLITS, World, make_world

from _newsclippings.facts import VERSION
from _newsclippings.folder.build import build_folder

EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "vectors": {"embeddings": "all"},
    "metadata": {"metadata": True},
    "articles": {"articles": True},
    "everything": {"embeddings": "all", "metadata": True, "articles": True},
}
ROWS_OF_VERSION = "1.1.0"
DIGESTS = {
    "merged_balanced-bytes-articles": "64afe7ced2013420",
    "merged_balanced-bytes-everything": "2a1a11ef54df3b1a",
    "merged_balanced-bytes-metadata": "304385da25f442c9",
    "merged_balanced-bytes-plain": "07ee2ba31d60f6ac",
    "merged_balanced-bytes-vectors": "189a3d6a961de140",
    "merged_balanced-none-articles": "02893f848f1739e7",
    "merged_balanced-none-everything": "8090afe340100e6d",
    "merged_balanced-none-metadata": "93d177c92611846e",
    "merged_balanced-none-plain": "53625aedbeb9a155",
    "merged_balanced-none-vectors": "8ae9cace40495d87",
    "merged_balanced-path-articles": "252312bf3e82f569",
    "merged_balanced-path-everything": "47d2e795a160d136",
    "merged_balanced-path-metadata": "76a76a2e07e97e6d",
    "merged_balanced-path-plain": "9286553dcdcd4cd8",
    "merged_balanced-path-vectors": "ca10994d525c38e2",
    "person_sbert_text_text-bytes-articles": "2eaa07b2affeb166",
    "person_sbert_text_text-bytes-everything": "f22df30526e2aa3a",
    "person_sbert_text_text-bytes-metadata": "5d9b94573656bee5",
    "person_sbert_text_text-bytes-plain": "0069340fb2c6104c",
    "person_sbert_text_text-bytes-vectors": "5b441b818f55f309",
    "person_sbert_text_text-none-articles": "60158e4f1546bec2",
    "person_sbert_text_text-none-everything": "b2cc1b0b6cce341a",
    "person_sbert_text_text-none-metadata": "243a54b5e2a38ffd",
    "person_sbert_text_text-none-plain": "478baaa6f2d089e3",
    "person_sbert_text_text-none-vectors": "3be043ab0efc58c2",
    "person_sbert_text_text-path-articles": "72d58f3a04283cd3",
    "person_sbert_text_text-path-everything": "1c0e97a43d7aedb9",
    "person_sbert_text_text-path-metadata": "4ea45877b1dcbfee",
    "person_sbert_text_text-path-plain": "da5b69fe3d39a577",
    "person_sbert_text_text-path-vectors": "17c45b3885b0eeaa",
    "scene_resnet_place-bytes-articles": "a72c1a9aaa86b643",
    "scene_resnet_place-bytes-everything": "7a0ec5814fb7ac51",
    "scene_resnet_place-bytes-metadata": "4079b636e3981b07",
    "scene_resnet_place-bytes-plain": "c7431ddd3059bc8b",
    "scene_resnet_place-bytes-vectors": "252a5c81f184314d",
    "scene_resnet_place-none-articles": "9a25a9e5fab559fb",
    "scene_resnet_place-none-everything": "02e060d0372bd008",
    "scene_resnet_place-none-metadata": "c0b63beb82dac72b",
    "scene_resnet_place-none-plain": "7733e24e381db14b",
    "scene_resnet_place-none-vectors": "fb709d465c2a4245",
    "scene_resnet_place-path-articles": "c786c44423ee6647",
    "scene_resnet_place-path-everything": "bda2bb22276558df",
    "scene_resnet_place-path-metadata": "995bd0b0fc1d5410",
    "scene_resnet_place-path-plain": "cff96f245ab05f4a",
    "scene_resnet_place-path-vectors": "8934ed1bc1a8d959",
    "semantics_clip_text_image-bytes-articles": "2081874c435f3efa",
    "semantics_clip_text_image-bytes-everything": "b3600bdbb3f1e0a6",
    "semantics_clip_text_image-bytes-metadata": "ef2d8b18a9d0a7f8",
    "semantics_clip_text_image-bytes-plain": "0030d9c0ee9693b9",
    "semantics_clip_text_image-bytes-vectors": "a930b9077b7b1909",
    "semantics_clip_text_image-none-articles": "5f3d39a9c08c85bb",
    "semantics_clip_text_image-none-everything": "55d8f7baf62af73e",
    "semantics_clip_text_image-none-metadata": "40167f043703c977",
    "semantics_clip_text_image-none-plain": "c7809028e6fc9a47",
    "semantics_clip_text_image-none-vectors": "189fe038ecfc07ca",
    "semantics_clip_text_image-path-articles": "2f54fea36d2838bc",
    "semantics_clip_text_image-path-everything": "687e52985076e62c",
    "semantics_clip_text_image-path-metadata": "d2ea784ed1ed1011",
    "semantics_clip_text_image-path-plain": "9bee116a366eb8d5",
    "semantics_clip_text_image-path-vectors": "5bee29a6bd47e04d",
    "semantics_clip_text_text-bytes-articles": "501de871ffc41b9a",
    "semantics_clip_text_text-bytes-everything": "368392a3f4cc131e",
    "semantics_clip_text_text-bytes-metadata": "ad903cc2e6151b11",
    "semantics_clip_text_text-bytes-plain": "b5c2126b5a369276",
    "semantics_clip_text_text-bytes-vectors": "c40bacc7700a2e1f",
    "semantics_clip_text_text-none-articles": "5922b8c798766de8",
    "semantics_clip_text_text-none-everything": "fb81e242d4092300",
    "semantics_clip_text_text-none-metadata": "8bbc3cd533de3139",
    "semantics_clip_text_text-none-plain": "4bf05d663e33e6a7",
    "semantics_clip_text_text-none-vectors": "0acf79a9be0f812c",
    "semantics_clip_text_text-path-articles": "baff238706588754",
    "semantics_clip_text_text-path-everything": "3219864414033f50",
    "semantics_clip_text_text-path-metadata": "297f9dfe01955640",
    "semantics_clip_text_text-path-plain": "2e9fd694c6324685",
    "semantics_clip_text_text-path-vectors": "969fc22561b0fee0",
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """The same world as a folder and as a tar, with vectors."""
    made = {}
    for place in ("folder", "tar"):
        world = make_world(tmp_path_factory.mktemp("golden") / place, folder=place == "folder", tar=place == "tar")
        write(world, make_plan(world))
        made[place] = world
    return made


def plain(value: Any, names: dict[bytes, str], root: str) -> Any:
    """A value as it is digested: a picture becomes the name of its file, because encoders differ in bytes."""
    if isinstance(value, dict):
        return {key: plain(each, names, root) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each, names, root) for each in value]
    if isinstance(value, bytes):
        return f"the bytes of {names[value]}"
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), names, root)
    return value.replace(root, "<root>") if isinstance(value, str) else value


def digest(world: World, splits: Any) -> str:
    """Digest all rows of all splits, with their order and columns."""
    names = {data: path for path, data in world.pictures.items()}
    rows = {split: plain(raw(splits[split]), names, str(world.root)) for split in SPLITS}
    return hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()[:16]


def by_map(world: World, config: str, options: dict[str, Any], _: Path) -> Any:
    return load(world, config, **options)


def by_stream(world: World, config: str, options: dict[str, Any], _: Path) -> Any:
    return load(world, config, streaming=True, **options)


def by_built_folder(world: World, config: str, options: dict[str, Any], out: Path) -> Any:
    build_folder(out, [config], data_dir=str(world.root), **options)
    return datasets.load_dataset(str(out), config)


WAYS = [(place, way) for place in ("folder", "tar") for way in (by_map, by_stream, by_built_folder)]
COMBINATIONS = list(itertools.product(CONFIGS, ("bytes", "path", "none"), EXTRAS))


@pytest.mark.parametrize("number", range(len(COMBINATIONS)), ids=["-".join(one) for one in COMBINATIONS])
def test_rows_are_those_of_version_1(worlds: dict[str, World], tmp_path: Path, number: int) -> None:
    """Every config, kind of pictures and set of columns has its digest, each read in one of six ways in turn."""
    config, images, extra = COMBINATIONS[number]
    ways = [one for one in WAYS if images != "path" or (one[0] == "folder" and one[1] is not by_built_folder)]
    place, way = ways[(number + number // len(EXTRAS)) % len(ways)]
    splits = way(worlds[place], config, {**EXTRAS[extra], "images": images}, tmp_path / "built")
    assert digest(worlds[place], splits) == DIGESTS[f"{config}-{images}-{extra}"], f"{place}, {way.__name__}"


def test_the_digests_are_those_of_this_version() -> None:
    """The digests were taken from the rows of this `VERSION`."""
    assert VERSION == ROWS_OF_VERSION
