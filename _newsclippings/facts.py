"""Facts about NewsCLIPpings as tables: configs, splits, columns, places of files, citation and licences.

Counts of rows are those of the published files. `file` marks rows that were counted in the file, `derived` rows that
follow from published totals (merged_balanced holds all person pairs and as many of each other sub-split).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

NAME: Final = "newsclippings"  # name of the package, its logger and its folder in caches
VERSION: Final = "1.1.0"
RELEASE_NOTES: Final = {
    "1.0.0": "First release: matches, captions and pictures in fourteen columns.",
    "1.1.0": "The metadata have the places of both articles and the entities of the title; articles='full'.",
}

DEFAULT_CONFIG: Final = "merged_balanced"

CONFIGS: Final = {
    "merged_balanced": "All four sub-splits in equal parts: the paper's benchmark.",
    "semantics_clip_text_image": "Pictures that fit another caption by CLIP text-image similarity.",
    "semantics_clip_text_text": "Pictures of captions that are alike by CLIP text-text similarity.",
    "person_sbert_text_text": "Pictures of the same named person in another context, by SBERT-WK.",
    "scene_resnet_place": "Pictures of the same kind of place, by ResNet50 Places365.",
}

# split of `datasets` -> name in the official files
SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}

# Rows of the published files, both twins counted. None: not counted.
ROWS: Final[dict[str, dict[str, int | None]]] = {
    "merged_balanced": {"train": 71_072, "validation": 7_024, "test": 7_264},  # file
    "semantics_clip_text_image": {"train": 453_128, "validation": None, "test": 47_288},  # file
    "semantics_clip_text_text": {"train": 516_072, "validation": None, "test": 54_164},  # file
    "person_sbert_text_text": {"train": 17_768, "validation": 1_756, "test": 1_816},  # file, derived, file
    "scene_resnet_place": {"train": 124_860, "validation": None, "test": 13_636},  # file
}

# Order of the official `source_datasets` table ("0".."3"); a row's `source_dataset` is an index into it.
SOURCE_DATASETS: Final = (
    "semantics_clip_text_image",
    "semantics_clip_text_text",
    "scene_resnet_place",
    "person_sbert_text_text",
)
LABELS: Final = ("pristine", "falsified")
COLORS: Final = ("#1a7f37", "#cf222e")  # of the two labels, in every picture and page
INK, FAINT, PAPER = "#1f2328", "#59636e", "#ffffff"
OUTLETS: Final = ("guardian", "bbc", "usa_today", "washington_post")

TEST_SETS: Final = ("verite", "5pils-ooc", "dgm4", "mmfakebench")  # of others, that the adapters of suite read

# All formats that occur in VisualNews. Others are refused, since Pillow runs programs for some of them.
PICTURE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
IMAGES: Final = ("bytes", "path", "none")
FULL: Final = "full"  # the value of the option `articles` for the original articles
ARTICLES: Final = (True, False, FULL)
MISSING: Final = ("error", "null", "drop_pair")
EXPORT_FORMS: Final = ("hydrated", "llava", "messages", "csv", "webdataset")  # of `newsclippings export`

# A config of built folders: each picture of the configs without an image column, stored once
SHARED_PICTURES: Final = "images"
SHARED_PICTURES_MEANING: Final = (
    "The pictures that the configs without an image column use, each once; for `join_images`."
)

# column -> (type, meaning); `image` is left out when images="none"
COLUMNS: Final = {
    "index": ("int32", "Row number in the official JSON: 2k is pristine, 2k+1 its falsified twin."),
    "id": ("int64", "VisualNews id of the caption."),
    "image_id": ("int64", "VisualNews id of the picture."),
    "caption": ("string", "Caption of `id`."),
    "image": ("Image", "Picture of `image_id`: the encoded bytes as found, never re-encoded."),
    "image_path": ("string", "Place of the picture in VisualNews, relative to `origin`."),
    "falsified": ("ClassLabel", "0 pristine: the caption's own picture; 1 falsified: another's."),
    "similarity_score": ("float64", "Value of the measure that made the pair; 1 on pristine rows."),
    "source_dataset": ("ClassLabel", "The sub-split (measure) that made the pair."),
    "source": ("string", "Outlet of the caption: guardian, bbc, usa_today or washington_post."),
    "topic": ("string", "Topic of the caption's article."),
    "image_source": ("string", "Outlet of the picture."),
    "image_topic": ("string", "Topic of the picture's own article."),
    "image_caption": ("string", "The picture's own caption: its true context."),
}


class Vectors(NamedTuple):
    """The vectors of one column."""

    width: int  # numbers of a vector
    key: str  # the column with their ids: `image_id` or `id`
    several: bool  # whether an id has any number of vectors, and not one
    meaning: str
    dtype: str = "float32"


VECTOR_DTYPES: Final = ("float32", "float16")
SIDES: Final = {"pictures": "image_id", "captions": "id"}  # what vectors are of -> the column with their ids

# The authors' kinds of vectors
EMBEDDINGS: Final = {
    "clip_image": Vectors(512, "image_id", False, "CLIP ViT-B/32 vector of the picture."),
    "clip_text": Vectors(512, "id", False, "CLIP ViT-B/32 vector of the caption."),
    "sbert": Vectors(768, "id", False, "SBERT-WK vector of the caption."),
    "places": Vectors(2048, "image_id", False, "ResNet50 Places365 vector of the picture."),
    "facenet": Vectors(512, "image_id", True, "FaceNet vectors of the picture, one per face."),
}
# kind -> its folder, which is also the start of its file names
EMBEDDING_FOLDERS: Final = {
    "clip_image": "clip_image_embeddings",
    "clip_text": "clip_text_embeddings",
    "sbert": "sbert_embeddings",
    "places": "places_resnet50",
    "facenet": "facenet_embeddings",
}

# Optional columns of texts -> (type, meaning)
TEXTS: Final = {
    "metadata": (
        "struct",
        "Of the caption's article: title, timestamp, whether the picture has a person, entities, places of its files.",
    ),
    "image_metadata": ("struct", "The same of the picture's article."),
    "article": ("string", "Text of the caption's article."),
    "article_full": ("string", "The caption's article as it was collected: a JSON file, unparsed."),
    "image_file": ("string", "Absolute path of the picture's file on this machine."),
    "evidence": ("struct", "Web evidence of CCN: entities, titles and captions of pages with the picture; pictures."),
}

# Folders below data_dir that are searched: the authors' tree first, then layouts that users have.
MATCHES_ROOTS: Final = ("news_clippings", "news_clippings/news_clippings", "")
VISUAL_NEWS_ROOTS: Final = ("visual_news", "visualnews", "")

# The matches on the Hub, in the newest revision whose full hash is public in a stable link, since the Hub resolves only
# full hashes. The one commit after it only adds the weights of a trained model.
HUB_REPO: Final = "g-luo/news-clippings"
HUB_REVISION: Final = "815fc4cd74b35788ba8a1524d65c42fb69b03fd4"
HUB_FILES: Final = f"hf://{HUB_REPO}@{HUB_REVISION}"

ENV_DATA_DIR: Final = "NEWSCLIPPINGS_DATA_DIR"
VISUAL_NEWS_URL: Final = "https://github.com/FuxiaoLiu/VisualNews-Repository"
VISUAL_NEWS_TREE: Final = """\
    <data_dir>/visual_news/origin.tar                          (97,916,641,280 bytes, uncompressed), or extracted:
    <data_dir>/visual_news/origin/data.json
    <data_dir>/visual_news/origin/<outlet>/images/0540/632.jpg (guardian, bbc, usa_today, washington_post)
    <data_dir>/news_clippings/data/<config>/{train,val,test}.json   (fetched from the Hub when absent)"""

HOMEPAGE: Final = "https://github.com/g-luo/news_clippings"
LICENSE: Final = (
    "Matches: Apache-2.0, as tagged by their authors. Captions, articles and pictures belong to their publishers; "
    "VisualNews is given out by its authors on request, for research."
)
DESCRIPTION: Final = (
    "NewsCLIPpings pairs real news captions with real news pictures. Half of the pictures belong to another caption, "
    "chosen automatically to look convincing: out-of-context media, as it is used to mislead."
)
CITATION: Final = """\
@inproceedings{luo-etal-2021-newsclippings,
    title = "{N}ews{CLIP}pings: {A}utomatic {G}eneration of {O}ut-of-{C}ontext {M}ultimodal {M}edia",
    author = "Luo, Grace and Darrell, Trevor and Rohrbach, Anna",
    booktitle = "Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing",
    year = "2021",
    note = "arXiv:2104.05893",
}
@inproceedings{liu-etal-2021-visual,
    title = "Visual News: Benchmark and Challenges in News Image Captioning",
    author = "Liu, Fuxiao and Wang, Yinghan and Wang, Tianlu and Ordonez, Vicente",
    booktitle = "Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing",
    year = "2021",
    note = "arXiv:2010.03743",
}
"""

Columns = dict[str, Any]  # column -> its type, in a form that every version of `datasets` reads


def _value(kind: str) -> Columns:
    return {"dtype": kind, "_type": "Value"}


_TEXT = _value("string")
_ENTITIES = [{"text": _TEXT, "label": _TEXT}]
METADATA_OF_FIRST: Columns = {  # of version 1.0.0
    "title": _TEXT,
    "timestamp": _value("timestamp[s, tz=UTC]"),
    "timestamp_text": _TEXT,
    "image_has_person": _value("bool"),
    "entities": _ENTITIES,
    "linked_entities": [{"title": _TEXT, "type": _TEXT, "mention": _TEXT, "confidence": _value("float64")}],
}
_METADATA = {
    **METADATA_OF_FIRST,
    "article_path": _TEXT,
    "full_article_path": _TEXT,
    "title_entities": _ENTITIES,
}
_IMAGE = {"_type": "Image"}
# Fields of the column `evidence`; a list is null if its search has no folder or no such file
EVIDENCE: Final[Columns] = {
    "entities": [_TEXT],  # of the picture, by the search engine
    "labels": [_TEXT],  # its best guesses
    "captions": [_TEXT],  # titles and captions of the pages that have the picture
    "caption_domains": [_TEXT],  # of these pages
    "caption_keep": [_value("bool")],  # false: the row's own caption, which CCN leaves out of pristine rows
    "images": [_TEXT],  # pictures for the caption, as paths below the folder of the evidence
    "image_domains": [_TEXT],  # of the pages that have them
    "image_keep": [_value("bool")],  # false: the row's own picture, which CCN leaves out of pristine rows
}
# Columns of the config `SHARED_PICTURES`
IMAGE_COLUMNS: Columns = {"image_id": _value("int64"), "image": _IMAGE, "image_path": _TEXT}


def columns_of(
    images: str = "bytes",
    vectors: Mapping[str, Vectors] | None = None,
    metadata: bool = False,
    articles: bool | str = False,
    image_file: bool = False,
    evidence: bool = False,
    source_datasets: Iterable[str] = SOURCE_DATASETS,
) -> Columns:
    """Return the columns that follow from the options of a build, in order.

    Args:
        images: `"bytes"` or `"path"` for a table with the column `image`, `"none"` for one without.
        vectors: column -> its vectors, in order.
        metadata: add the columns `metadata` and `image_metadata`.
        articles: True adds the column `article`, `"full"` the column `article_full`.
        image_file: add the column `image_file`.
        evidence: add the column `evidence`.
        source_datasets: the names of the measures, of a generated config those of its methods.
    """
    columns: Columns = {}
    labels = {"falsified": LABELS, "source_dataset": source_datasets}
    for name, (kind, _) in COLUMNS.items():
        if name in labels:
            columns[name] = {"names": list(labels[name]), "_type": "ClassLabel"}
        elif name != "image" or images != "none":
            columns[name] = _IMAGE if name == "image" else _value(kind)
    columns |= {name: vector_feature(facts) for name, facts in (vectors or {}).items()}
    if metadata:
        columns |= {"metadata": _METADATA, "image_metadata": _METADATA}
    if articles:
        columns["article_full" if articles == FULL else "article"] = _TEXT
    if image_file:
        columns["image_file"] = _TEXT
    if evidence:
        columns["evidence"] = EVIDENCE
    return columns


def vector_feature(vectors: Vectors) -> Columns:
    """Return the type of a column of vectors."""
    vector = {"feature": _value(vectors.dtype), "length": vectors.width, "_type": "Sequence"}
    return {"feature": vector, "_type": "Sequence"} if vectors.several else vector
