"""The tools of `datasets`: a builder that yields dicts, `from_generator`, `imagefolder`."""

import functools
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, GeneratorBasedBuilder, Image, Split, SplitGenerator, Value

from benchmarks.contenders.decode import read_all
from benchmarks.contenders.rows import FILES, LABELS, NUMBERS, TEXTS, joined, load_records, matches
from benchmarks.job import Job, Outcome

DEFAULT = "merged_balanced"
Read = Callable[[str], bytes]


def features(pictures: bool) -> Features:
    """Return features for the same columns as ours."""
    columns = {name: Value(kind) for name, kind in NUMBERS.items()} | {name: Value("string") for name in TEXTS}
    columns |= {name: ClassLabel(names=names) for name, names in LABELS.items()}
    return Features({**columns, "image": Image()} if pictures else columns)


def with_pictures(rows: Iterator[dict[str, Any]], read: Read) -> Iterator[dict[str, Any]]:
    """Add the bytes of their pictures to rows."""
    for row in rows:
        yield {**row, "image": {"bytes": read(row["image_path"]), "path": None}}


class DictBuilder(GeneratorBasedBuilder):
    """A typical dataset script."""

    VERSION = datasets.Version("1.0.0")

    data_dir: Path
    data_json: Path
    read: Read | None = None

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=features(self.read is not None))

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        self.records = load_records(self.data_json)
        return [SplitGenerator(name=split, gen_kwargs={"split": split}) for split in FILES]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        rows = joined(self.records, matches(self.data_dir, self.config.name, split))
        yield from enumerate(with_pictures(rows, self.read) if self.read else rows)

    @classmethod
    def build(cls, data_dir: Path, config: str, data_json: Path | None = None, read: Read | None = None) -> Outcome:
        """Build all splits; `data_json` is needed only if it is not in its usual place."""
        cls.data_dir, cls.read = data_dir, read if read is None else staticmethod(read)
        cls.data_json = data_json or data_dir / "visual_news" / "origin" / "data.json"
        builder = cls(config_name=config, writer_batch_size=100 if read else 1000)  # the fastest of those tried
        builder.download_and_prepare()
        return {"rows": sum(map(len, builder.as_dataset().values()))}


def _reader(origin: Path) -> Read:
    return lambda name: (origin / name).read_bytes()


def captions(job: Job) -> Outcome:
    """Build the default config without pictures."""
    return DictBuilder.build(job.corpus / "captions", DEFAULT)


def captions_largest(job: Job) -> Outcome:
    """Build the largest config without pictures."""
    return DictBuilder.build(job.corpus / "captions", "semantics_clip_text_text")


def pictures(job: Job) -> Outcome:
    """Build the default config with the pictures of the folder as bytes."""
    folder = job.corpus / "pictures"
    return DictBuilder.build(folder, DEFAULT, read=_reader(folder / "visual_news" / "origin"))


def pictures_extracted(job: Job) -> Outcome:
    """Extract the tar, then build from the folder."""
    subprocess.run(["tar", "-xf", job.corpus / "tar" / "visual_news" / "origin.tar", "-C", job.out], check=True)
    origin = job.out / "origin"
    return DictBuilder.build(job.corpus / "tar", DEFAULT, origin / "data.json", _reader(origin))


def pictures_tarfile(job: Job) -> Outcome:
    """List the tar with tarfile, then read each member at its position."""
    with tarfile.open(job.corpus / "tar" / "visual_news" / "origin.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}

        def read(name: str) -> bytes:
            file = tar.extractfile(members[f"origin/{name}"])
            return file.read() if file else b""

        data_json = job.out / "data.json"
        data_json.write_bytes(read("data.json"))
        return DictBuilder.build(job.corpus / "tar", DEFAULT, data_json, read)


@functools.cache  # if the generator referred to the dict, its fingerprint would pickle the dict at every call
def _records(data_json: str) -> dict[int, dict[str, Any]]:
    return load_records(Path(data_json))


def generate(data_dir: str, split: str, pictures: bool) -> Iterator[dict[str, Any]]:
    """Yield rows for `from_generator`."""
    origin = Path(data_dir, "visual_news", "origin")
    rows = joined(_records(str(origin / "data.json")), matches(Path(data_dir), DEFAULT, split))
    return with_pictures(rows, _reader(origin)) if pictures else rows


def _from_generator(folder: Path, split: str, pictures: bool, **kwargs: Any) -> Any:
    given = {"data_dir": str(folder), "split": split, "pictures": pictures}
    return Dataset.from_generator(generate, features=features(pictures), gen_kwargs=given, split=Split(split), **kwargs)


def captions_generator(job: Job) -> Outcome:
    """Call `Dataset.from_generator` for each split."""
    return {"rows": sum(len(_from_generator(job.corpus / "captions", split, False)) for split in FILES)}


def parquet_generator(job: Job) -> Outcome:
    """Call `Dataset.from_generator` with pictures as bytes, then `to_parquet`."""
    rows = 0
    for split in FILES:
        dataset = _from_generator(job.corpus / "pictures", split, True, writer_batch_size=100)
        dataset.to_parquet(str(job.out / f"{split}.parquet"))
        rows += len(dataset)
    return {"rows": rows}


def _metadata(folder: Path, data_dir: Path) -> Path:
    """Make a folder for `imagefolder`, with metadata.jsonl and a link to the pictures."""
    origin = data_dir / "visual_news" / "origin"
    folder.mkdir(exist_ok=True)
    (folder / "origin").symlink_to(origin)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as out:
        for row in joined(load_records(origin / "data.json"), matches(data_dir, DEFAULT, "train")):
            out.write(json.dumps({**row, "file_name": f"origin/{row['image_path']}"}) + "\n")
    return folder


def _imagefolder(folder: Path, **kwargs: Any) -> Any:
    return datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", drop_labels=True, **kwargs)


def picture_paths(job: Job) -> Outcome:
    """Write metadata.jsonl, then load `imagefolder`."""
    return {"rows": len(_imagefolder(_metadata(job.out / "folder", job.corpus / "pictures")))}


def imagefolder_of(job: Job) -> Any:
    """Load an `imagefolder`, which the first run prepares."""
    folder = job.state / "folder"
    if not folder.exists():
        _metadata(folder, job.corpus / "pictures")
    return _imagefolder(folder, cache_dir=str(job.state / "cache"))


def read_imagefolder(job: Job) -> Outcome:
    """Decode the rows of an `imagefolder`, which an earlier run prepared."""
    return read_all((row["image"] for row in imagefolder_of(job)), job.limit)
