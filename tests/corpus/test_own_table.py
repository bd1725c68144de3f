"""A corpus of one's own in a table is read with its types, and what is wrong with it is said with its row."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from _newsclippings.corpus import read_own_table
from newsclippings import BadFileError, DataNotFoundError, UnsafePathError, embed

HEAD = "id,caption,image_path,outlet,topic,article,time,has_person,section"
ROWS = [
    '7,"Émile, ""là"" 東京\nsecond line",./a/1.jpg,朝日,,https://x.jp/1,2020-02-03T04:05:06+09:00,true,s1',
    "-3,two,写真/2.jpg,,politics,,2020-02-03,,",
    "5,,b/3.jpg,bbc,politics,u,0001-01-01,False,s2",
]


def write(folder: Path, *rows: str, head: str = HEAD, name: str = "c.csv") -> str:
    (folder / name).write_text("\n".join([head, *(rows or ROWS)]) + "\n", encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("form", ["csv", "bom", "parquet", "CSV", "dictionary"])
def test_columns(form: str, tmp_path: Path) -> None:
    """CSV and Parquet give the same records, sorted by id; unknown values are "" or null."""
    names = {"CSV": "C.CSV"}
    place = write(tmp_path, name=names.get(form, "c.csv"))
    if form == "bom":
        Path(place).write_bytes(b"\xef\xbb\xbf" + Path(place).read_bytes())
    if form in ("parquet", "dictionary"):
        times = [datetime.datetime(2020, 2, 2, 19, 5, 6), datetime.datetime(2020, 2, 3), None]
        columns: dict[str, Any] = {
            "id": pa.array([7, -3, 5], pa.int32()),
            "caption": pa.array(['Émile, "là" 東京\nsecond line', "two", ""], pa.large_string()),
            "image_path": ["./a/1.jpg", "写真/2.jpg", "b/3.jpg"],
            "outlet": ["朝日", None, "bbc"],
            "topic": [None, "politics", "politics"],
            "article": ["https://x.jp/1", None, "u"],
            "time": pa.array(times, pa.timestamp("ns")),
            "has_person": [True, None, False],
            "section": ["s1", "", "s2"],
            "vector": pa.array([[1.0], [2.0], None]),
        }
        if form == "dictionary":
            columns["topic"] = pa.array(columns["topic"]).dictionary_encode()
        place = str(tmp_path / "c.parquet")
        pq.write_table(pa.table(columns), place)
    table = read_own_table(place, None)
    assert table.to_pydict() == {
        "id": [-3, 5, 7],
        "caption": ["two", "", 'Émile, "là" 東京\nsecond line'],
        "image_path": ["写真/2.jpg", "b/3.jpg", "a/1.jpg"],
        "source": ["", "bbc", "朝日"],
        "topic": ["politics", "politics", ""],
        "article": ["", "u", "https://x.jp/1"],
        "time": [1580688000.0, None, 1580670306.0],
        "has_person": [None, False, True],
        "section": ["", "s2", "s1"],
    }
    assert read_own_table(place, table["id"].to_numpy()[1:])["id"].to_pylist() == [5, 7]


def test_three_columns_are_enough(tmp_path: Path) -> None:
    """The other columns may be left out."""
    table = read_own_table(write(tmp_path, "1,a,1.jpg", head="id,caption,image_path"), None)
    assert table.to_pylist() == [
        {"id": 1, "caption": "a", "image_path": "1.jpg", "source": "", "topic": "", "article": "", "time": None,
         "has_person": None},
    ]  # fmt: skip


WRONG: dict[str, tuple[tuple[str, ...], str, str]] = {
    "no path": (("1,a",), "id,caption", r"without image_path\. Rename or add it"),
    "misspelt": (("1,a,b",), "id,captions,image_path", r"without caption\. .*Did you mean 'captions'\?"),
    "an id twice": (("1,a,b", "2,a,b", "1,c,d"), "id,caption,image_path", "id 1: expected each id once"),
    "text as id": (("x,a,b",), "id,caption,image_path", "expected integers in the column id"),
    "no id": ((",a,b",), "id,caption,image_path", "integers in the column id|an id in each row"),
    "no time": (("4,a,b,soon",), "id,caption,image_path,time", r"id 4: expected a time .*'soon'"),
    "no truth": (("4,a,b,yes",), "id,caption,image_path,has_person", r"id 4: expected true or false .*'yes'"),
    "columns": (("1,a,b,c,d",), "id,caption,image_path", "expected a table"),
    "double": (("1,a,b,c",), "id,caption,image_path,caption", "caption several times"),
    "semicolons": (("1;a;b",), "id;caption;image_path", r"without id\. Separate its columns by commas"),
    "tabs": (("1\ta\tb",), "id\tcaption\timage_path", r"without id\. Separate its columns by commas"),
    "two outlets": (("1,a,b,c,d",), "id,caption,image_path,outlet,source", "one of the columns outlet and source"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    """The column or the row is named."""
    rows, head, message = WRONG[case]
    with pytest.raises(BadFileError, match=message):
        read_own_table(write(tmp_path, *rows, head=head), None)


TYPES: dict[str, tuple[str, Any]] = {
    "id as floats": ("id", pa.array([1.0, 2.0])),
    "caption as bytes": ("caption", pa.array([b"a", b"b"])),
    "seconds as floats": ("time", pa.array([1577934245.5, None])),
    "persons as floats": ("has_person", pa.array([1.0, None])),
    "outlets as lists": ("outlet", pa.array([["bbc"], ["bbc"]])),
}


@pytest.mark.parametrize("case", TYPES)
def test_no_column_is_ignored_for_its_type(case: str, tmp_path: Path) -> None:
    """A column with one of the names that are read has a type that is read, or is an error that names both."""
    name, column = TYPES[case]
    table = pa.table({"id": [1, 2], "caption": ["a", "b"], "image_path": ["a.jpg", "b.jpg"]} | {name: column})
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(BadFileError, match=rf"in the column {name}, found .*{str(column.type)[:4]}.*\. Convert it"):
        read_own_table(str(tmp_path / "c.parquet"), None)


def test_times_of_pandas(tmp_path: Path) -> None:
    """Nanoseconds are read, and times that are too far for microseconds are an error."""
    columns = {"id": [1], "caption": ["a"], "image_path": ["a.jpg"]}
    for kind, number in (("ns", 1577934245123456789), ("ms", 1 << 60)):
        pq.write_table(
            pa.table({**columns, "time": pa.array([number], pa.timestamp(kind))}), tmp_path / f"{kind}.parquet"
        )
    assert read_own_table(str(tmp_path / "ns.parquet"), None)["time"].to_pylist() == [1577934245.123456]
    with pytest.raises(BadFileError, match="expected times in the column time"):
        read_own_table(str(tmp_path / "ms.parquet"), None)


def test_source_is_the_outlet(tmp_path: Path) -> None:
    """The outlet may have the name that it has in the rows."""
    table = read_own_table(write(tmp_path, "1,a,1.jpg,bbc", head="id,caption,image_path,source"), None)
    assert table["source"].to_pylist() == ["bbc"]


def test_other_files(tmp_path: Path) -> None:
    """No rows, other encodings and other contents are errors of this package; so are paths that leave the folder."""
    with pytest.raises(BadFileError):
        read_own_table(write(tmp_path, ""), None)
    place = tmp_path / "latin.csv"
    place.write_bytes("id,caption,image_path\n1,é,a.jpg\n".encode("latin-1"))
    with pytest.raises(BadFileError, match="UTF-8"):
        read_own_table(str(place), None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(BadFileError):
        read_own_table(str(tmp_path / "x.parquet"), None)
    for path in ("/etc/passwd", "../x.jpg", "http://x/1.jpg"):
        with pytest.raises(UnsafePathError, match=r"record 1: image_path .* relative to the folder of the table"):
            read_own_table(write(tmp_path, f"1,a,{path}", head="id,caption,image_path"), None)
    with pytest.raises(DataNotFoundError, match="is not a file"):
        embed(tmp_path / "v", "st:x", "captions", ids="all", visual_news=tmp_path / "absent.csv")
