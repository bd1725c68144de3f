"""Test sets of others under the same columns: VERITE, 5Pils-OOC, DGM4 and MMFakeBench, as their authors publish them.

Each is a list of rows in a file, and pictures in folders that the rows name. Both come from strangers: a path is used
only if it stays below the folder.
"""

import csv
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from _newsclippings.config import bad_value
from _newsclippings.errors import ConfigError, DataNotFoundError, bad_file
from _newsclippings.evaluate import Evaluation, Source, Threshold, Truth, evaluate_truth, load_truth
from _newsclippings.facts import DEFAULT_CONFIG, LABELS, TEST_SETS
from _newsclippings.pictures import FolderPictures
from _newsclippings.storage import DECODER, describe_json_error, has_surrogates, is_url, read_file
from _newsclippings.suite.compare import check_path
from _newsclippings.tables import Int64s, array_of
from _newsclippings.text import printable, short_repr, without_secrets

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

MOST: Final = 1 << 30  # bytes of a list; that of DGM4's training split has about 100 MB
_DO = "Fetch the test set again."
_logger = logging.getLogger("newsclippings")


class Row(NamedTuple):
    """A row of a test set. Its ids are those of the authors; or its number, and a number for each picture."""

    id: int
    image_id: int
    caption: str
    image_path: str
    falsified: bool
    group: str


@dataclass(frozen=True)
class OtherSet:
    """A test set.

    Attributes:
        name: one of `TEST_SETS`.
        file: the list of rows.
        root: the folder that the paths of pictures are relative to.
        rows: its rows, in the order of the file.
        pairs: int64 (N,), the pair of each row; each its own where there are none.
        breakdowns: further groups: name -> key of each row, empty for a row in none.
    """

    name: str
    file: str
    root: str
    rows: Sequence[Row]
    pairs: Int64s
    breakdowns: Mapping[str, list[str]]

    @property
    def truth(self) -> Truth:
        """The true labels, for `evaluate_truth`."""
        falsified = np.array([row.falsified for row in self.rows], bool)
        count, groups = len(self.rows), [row.group for row in self.rows]
        return Truth(
            self.name,
            os.path.splitext(os.path.basename(self.file))[0],
            np.arange(count),
            np.array([row.id for row in self.rows], np.int64),
            np.array([row.image_id for row in self.rows], np.int64),
            falsified,
            np.zeros(count),
            np.full(count, -1),
            {"group": groups, **self.breakdowns},
            places=[self.file],
            pairs=self.pairs,
            classes=groups,
        )

    def find_pictures(self) -> "pa.Array":
        """Return the absolute path of each picture (Arrow string); null where it is not there."""
        pictures = FolderPictures(self.root, array_of([row.image_path for row in self.rows], _string()))
        numbers = np.arange(len(self.rows), dtype=np.int32)
        pictures.look(numbers)
        absent = int((~pictures.present).sum())
        if absent:
            first = self.rows[int(np.flatnonzero(~pictures.present)[0])].image_path
            _logger.warning("%s: %s of %s pictures are not there (%s, ...)", self.name, absent, len(numbers), first)
        return pictures.full_paths(numbers)


def load_test_set(name: str, location: str | os.PathLike[str]) -> OtherSet:
    """Read a test set.

    Args:
        name: `"verite"`, `"5pils-ooc"`, `"dgm4"` or `"mmfakebench"`.
        location: its folder, or the file with the list of its rows, to choose another split than test.

    Raises:
        ConfigError: the name is unknown.
        DataNotFoundError: the list is not there.
        BadFileError: the list has other content.
        UnsafePathError: a path of the list leads out of the folder.
    """
    if not isinstance(name, str) or name not in TEST_SETS:
        raise bad_value("on", name, TEST_SETS)
    if is_url(os.fspath(location)):
        message = f"{printable(without_secrets(os.fspath(location)))} is a URL; expected a local folder. Copy it here."
        raise ConfigError(message)
    place, layout = os.path.abspath(os.path.expanduser(os.fspath(location))), LAYOUTS[name]
    places = [place] if os.path.isfile(place) else [os.path.join(place, file) for file in layout.files]
    file = next((each for each in places if os.path.isfile(each)), None)
    if file is None:
        message = (
            f"{place}: expected {' or '.join(layout.files)}, found neither. Pass the folder of {name}, or its list."
        )
        raise DataNotFoundError(message)
    rows = [*layout.read(file)]
    if not rows:
        raise bad_file(file, "rows", "none", _DO)
    root = os.path.dirname(file)
    if layout.above(root):
        root = os.path.dirname(root)
    numbers = np.array([row.image_id for row in rows], np.int64) if layout.has_pairs else np.arange(len(rows))
    return OtherSet(name, file, root, rows, numbers, layout.breakdowns(rows))


def open_test_set(name: str, location: str | os.PathLike[str]) -> "datasets.Dataset":
    """Open a test set of others as a dataset.

    Its columns are index, id, image_id, caption, image (decoded when it is read; null if it is not there), image_path,
    label (0 pristine, 1 falsified) and group (which kind of row its authors call it).

    Args:
        name: `"verite"`, `"5pils-ooc"`, `"dgm4"` or `"mmfakebench"`.
        location: its folder, or the file with the list of its rows, to choose another split than test.

    Raises:
        NewsCLIPpingsError: the name is unknown, or the list is not there or has other content.
    """
    import datasets

    test_set = load_test_set(name, location)
    features = datasets.Features(
        {
            "index": datasets.Value("int32"),
            "id": datasets.Value("int64"),
            "image_id": datasets.Value("int64"),
            "caption": datasets.Value("string"),
            "image": datasets.Image(),
            "image_path": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(LABELS)),
            "group": datasets.Value("string"),
        }
    )
    columns = {field: [getattr(row, field) for row in test_set.rows] for field in Row._fields if field != "falsified"}
    columns["index"] = list(range(len(test_set.rows)))
    columns["label"] = [int(row.falsified) for row in test_set.rows]
    columns["image"] = [None if p is None else {"bytes": None, "path": p} for p in test_set.find_pictures().to_pylist()]
    return datasets.Dataset.from_dict({column: columns[column] for column in features}, features=features)


def evaluate_on(
    name: str,
    location: str | os.PathLike[str],
    *predictions: Source,
    data_dir: str | os.PathLike[str] | None = None,
    partial: bool = False,
    threshold: Threshold | Sequence[Threshold] | None = None,
    cluster: str = "pairs",
    group: bool = False,
) -> Evaluation:
    """Measure the predictions of a model on a test set of others, or compare those of several.

    Args:
        name: see `open_test_set`.
        location: see `open_test_set`.
        predictions: as of `evaluate`; `index` is the number of the row in the list of the test set, from 0 on. Instead
            of a label they may have `group_predicted`, the kind of row, as VERITE's three.
        data_dir: folder with the official tree, if a threshold is chosen on the validation split of NewsCLIPpings.
        partial: as of `evaluate`.
        threshold: as of `evaluate`. `"val:FILE"`: predictions of the validation split of merged_balanced.
        cluster: as of `evaluate`. Where a test set has no pairs, rows are resampled.
        group: as of `evaluate`.

    Raises:
        NewsCLIPpingsError: as `open_test_set` and `evaluate`.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    return evaluate_truth(
        predictions,
        lambda: load_test_set(name, location).truth,
        lambda: load_truth(DEFAULT_CONFIG, "validation", folder, groups=False),
        partial=partial,
        threshold=threshold,
        cluster=cluster,
        group=group,
    )


def _string() -> "pa.DataType":
    import pyarrow as pa

    return pa.string()


def _read_verite(file: str) -> Iterator[Row]:
    """`VERITE.csv`: a number without a name, caption, image_path, label."""
    pictures: dict[str, int] = {}
    for number, (place, row) in enumerate(_read_csv(file, ("caption", "image_path", "label"))):
        label = row["label"]
        if label not in VERITE_LABELS:
            raise bad_file(place, f"{', '.join(VERITE_LABELS)} as label", short_repr(label), _DO)
        path = check_path(place, row["image_path"])
        image = pictures.setdefault(path, len(pictures))
        yield Row(number, image, row["caption"], path, label != VERITE_LABELS[0], label)


VERITE_LABELS: Final = ("true", "miscaptioned", "out-of-context")


def _compare_in_verite(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The binary tasks that the authors of VERITE measure: true rows, and one kind of the others."""
    true, *others = VERITE_LABELS
    return {
        f"true_vs_{short}": [f"{true}, {other}" if row.group in (true, other) else "" for row in rows]
        for short, other in zip(("mc", "ooc"), others, strict=True)
    }


def _read_5pils(file: str) -> Iterator[Row]:
    """`test.json`: objects with id, image_id, caption, true_caption, image_path. The caption is the true one or not."""
    for place, row in _read_objects(file):
        number, image = (_check(place, row, name, int) for name in ("id", "image_id"))
        caption, true, path = (_check(place, row, name, str) for name in ("caption", "true_caption", "image_path"))
        falsified = caption != true
        group = "out-of-context" if falsified else "accurate"
        yield Row(number, image, caption, check_path(place, path), falsified, group)


def _read_dgm4(file: str) -> Iterator[Row]:
    """`metadata/<split>.json`: objects with id (of VisualNews), image (`DGM4/...`), text and fake_cls."""
    for place, row in _read_objects(file):
        number = _check(place, row, "id", int)
        path, caption, kind = (_check(place, row, name, str) for name in ("image", "text", "fake_cls"))
        yield Row(number, number, caption, check_path(place, path.removeprefix("DGM4/")), kind != "orig", kind)


def _read_mmfakebench(file: str) -> Iterator[Row]:
    """`source/MMFakeBench_<split>.json`: objects with image_path (`/fake/...`), text, fake_cls, gt_answers."""
    pictures: dict[str, int] = {}
    for number, (place, row) in enumerate(_read_objects(file)):
        path, caption, kind = (_check(place, row, name, str) for name in ("image_path", "text", "fake_cls"))
        answer = row.get("gt_answers")
        answer = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
        if answer not in ("True", "Fake"):
            raise bad_file(place, "True or Fake as gt_answers", short_repr(answer), _DO)
        path = check_path(place, path.removeprefix("/"))
        yield Row(number, pictures.setdefault(path, len(pictures)), caption, path, answer == "Fake", kind)


def _folders_of_mmfakebench(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The folder of each picture, which says where it is from."""
    return {"folder": [os.path.basename(os.path.dirname(row.image_path)) for row in rows]}


class Layout(NamedTuple):
    """How the authors of a test set publish it.

    Attributes:
        files: places of the list below the folder, the first that exists is read.
        read: reads it.
        above: whether the pictures are relative to the folder above the one (an argument) that has the list.
        has_pairs: whether rows with the same image_id are a pair.
        breakdowns: makes further groups.
    """

    files: Sequence[str]
    read: Callable[[str], Iterator[Row]]
    above: Callable[[str], bool]
    has_pairs: bool = False
    breakdowns: Callable[[Sequence[Row]], dict[str, list[str]]] = lambda _: {}


# Sources: stevejpapad/image-text-verification (VERITE/VERITE.csv), UKPLab/naacl2025-cove (data/5pils_ooc),
# rshaojimmy/MultiModal-DeepFake (README.md, dataset/dataset.py), liuxuannan/MMFakeBench (README.md).
LAYOUTS: Final[dict[str, Layout]] = {
    "verite": Layout(("VERITE.csv", "VERITE/VERITE.csv"), _read_verite, lambda _: False, breakdowns=_compare_in_verite),
    "5pils-ooc": Layout(("test.json", "5pils_ooc/test.json"), _read_5pils, lambda _: False, has_pairs=True),
    "dgm4": Layout(("metadata/test.json", "DGM4/metadata/test.json"), _read_dgm4, lambda _: True),
    "mmfakebench": Layout(
        ("source/MMFakeBench_test.json", "MMFakeBench_test/source/MMFakeBench_test.json", "MMFakeBench_test.json"),
        _read_mmfakebench,
        lambda folder: os.path.basename(folder) == "source",
        breakdowns=_folders_of_mmfakebench,
    ),
}


def _check(place: str, row: Mapping[str, Any], name: str, kind: type) -> Any:
    value = row.get(name)
    if type(value) is not kind or (isinstance(value, str) and has_surrogates(value)):
        raise bad_file(place, f"{'an integer' if kind is int else 'a text'} as {name}", short_repr(value), _DO)
    return value


def _read_objects(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each object of a JSON list, for messages, and the object."""
    data = read_file(file, MOST)
    try:
        values = DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad_file(file, "a JSON list of objects", describe_json_error(error), _DO) from None
    if not isinstance(values, list):
        raise bad_file(file, "a JSON list of objects", short_repr(values), _DO)
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise bad_file(f"{file}: row {number}", "an object", short_repr(value), _DO)
        yield f"{file}: row {number}", value


def _read_csv(file: str, names: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each line of a CSV file, for messages, and the values of some columns."""
    try:
        lines = csv.DictReader(io.StringIO(read_file(file, MOST).decode("utf-8-sig"), newline=""), strict=True)
        if missing := [name for name in names if name not in (lines.fieldnames or ())]:
            raise bad_file(file, f"a column {missing[0]}", ", ".join(lines.fieldnames or ["none"])[:200], _DO)
        if len({*(lines.fieldnames or ())}) < len(lines.fieldnames or ()):
            raise bad_file(file, "different names of columns", "one twice", _DO)
        for line in lines:
            place = f"{file}: line {lines.line_num}"
            values = {name: line[name] for name in names}
            if None in values.values() or None in line:
                raise bad_file(place, f"{len(lines.fieldnames or ())} values", "another number", _DO)
            yield place, values
    except (csv.Error, UnicodeDecodeError) as error:
        raise bad_file(file, "comma-separated values in UTF-8", str(error), _DO) from None
