"""Data frames and databases: read both files, join captions and pictures, keep the order, write Parquet."""

from pathlib import Path
from typing import Any

from benchmarks.job import Job, Outcome

FILES = {"train": "train", "validation": "val", "test": "test"}
DEFAULT = "merged_balanced"
LARGEST = "semantics_clip_text_text"
CODE = 1  # source_dataset of semantics_clip_text_text, which its rows do not have


def _places(job: Job, config: str) -> tuple[Path, dict[str, Path]]:
    folder = job.corpus / "captions"
    matches = folder / "news_clippings" / "data" / config
    files = {split: matches / f"{name}.json" for split, name in FILES.items()}
    return folder / "visual_news" / "origin" / "data.json", files


def pandas(job: Job) -> Outcome:
    """Use pandas on records that `json` reads, since `read_json` takes twice as long."""
    import json

    import pandas as pd

    data_json, files = _places(job, DEFAULT)
    with open(data_json, encoding="utf-8") as file:
        records = pd.DataFrame(json.load(file)).set_index("id").drop(columns="article_path")
    records["image_path"] = records["image_path"].str.removeprefix("./")
    pictures = records.add_prefix("image_").rename(columns={"image_image_path": "image_path"})
    rows = 0
    for split, path in files.items():
        with open(path, encoding="utf-8") as file:
            frame = pd.DataFrame(json.load(file)["annotations"])
        frame.insert(0, "index", range(len(frame)))
        frame = frame.join(records.drop(columns="image_path"), on="id").join(pictures, on="image_id")
        frame.to_parquet(job.out / f"{split}.parquet", compression="zstd", index=False)
        rows += len(frame)
    return {"rows": rows}


def _polars(job: Job, config: str) -> Outcome:
    import polars as pl

    data_json, files = _places(job, config)
    text = dict.fromkeys(("caption", "topic", "source", "image_path", "article_path"), pl.String)
    records = pl.read_json(data_json, schema={"id": pl.Int64, **text}).drop("article_path")
    records = records.with_columns(pl.col("image_path").str.strip_prefix("./"))
    pictures = records.rename({"caption": "image_caption", "topic": "image_topic", "source": "image_source"})
    kinds = {"id": pl.Int64, "image_id": pl.Int64, "similarity_score": pl.Float64, "falsified": pl.Boolean}
    if config == DEFAULT:
        kinds["source_dataset"] = pl.Int64
    rows = 0
    for split, path in files.items():
        frame = pl.read_json(path, schema={"annotations": pl.List(pl.Struct(kinds))})
        frame = frame.explode("annotations").unnest("annotations").with_row_index("index")
        if config == LARGEST:
            frame = frame.with_columns(source_dataset=pl.lit(CODE))
        frame = frame.join(records.drop("image_path"), on="id", how="left", maintain_order="left")
        frame = frame.join(pictures, left_on="image_id", right_on="id", how="left", maintain_order="left")
        frame.write_parquet(job.out / f"{split}.parquet")
        rows += len(frame)
    return {"rows": rows}


def polars(job: Job) -> Outcome:
    """Use polars on the default config."""
    return _polars(job, DEFAULT)


def polars_largest(job: Job) -> Outcome:
    """Use polars on the largest config."""
    return _polars(job, LARGEST)


RECORDS = """
    CREATE TABLE records AS
    SELECT id, caption, topic, source, substr(image_path, 3) AS image_path
    FROM read_json(?, format = 'array', columns = {
        id: 'BIGINT', caption: 'VARCHAR', topic: 'VARCHAR', source: 'VARCHAR', image_path: 'VARCHAR'
    })
"""
MATCHES = """
    CREATE OR REPLACE TABLE matches AS
    SELECT unnest(list) AS m, generate_subscripts(list, 1) - 1 AS row
    FROM (
        SELECT from_json(json -> 'annotations', '[{{"id": "BIGINT", "image_id": "BIGINT", "similarity_score": "DOUBLE",
            {measure} "falsified": "BOOLEAN"}}]') AS list
        FROM read_json_objects(?, maximum_object_size = 1000000000)
    )
"""
JOINED = """
    COPY (
        SELECT
            row::INTEGER AS index, m.id AS id, m.image_id AS image_id, t.caption AS caption, p.image_path AS image_path,
            m.falsified AS falsified, m.similarity_score AS similarity_score, {code} AS source_dataset,
            t.source AS source, t.topic AS topic,
            p.source AS image_source, p.topic AS image_topic, p.caption AS image_caption
        FROM matches JOIN records t ON m.id = t.id JOIN records p ON m.image_id = p.id
        ORDER BY row
    ) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""


def _duckdb(job: Job, config: str) -> Outcome:
    import duckdb

    data_json, files = _places(job, config)
    code, measure = (CODE, "") if config == LARGEST else ("m.source_dataset", '"source_dataset": "INTEGER",')
    database: Any = duckdb.connect()
    database.execute(RECORDS, [str(data_json)])
    rows = 0
    for split, path in files.items():
        database.execute(MATCHES.format(measure=measure), [str(path)])
        copied = database.execute(JOINED.format(code=code, path=job.out / f"{split}.parquet"))
        rows += copied.fetchone()[0]
    return {"rows": rows}


def duckdb(job: Job) -> Outcome:
    """Use DuckDB on the default config."""
    return _duckdb(job, DEFAULT)


def duckdb_largest(job: Job) -> Outcome:
    """Use DuckDB on the largest config."""
    return _duckdb(job, LARGEST)
