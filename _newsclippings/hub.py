"""A folder of Parquet files that loads by name without this package: `<config>/<split>-00000-of-00001.parquet`."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _newsclippings.built import REPORT_FILE
from _newsclippings.errors import ConfigError
from _newsclippings.files import write_atomically
from _newsclippings.schema import CONFIGS, DEFAULT_CONFIG, LICENSE

TITLE = "# NewsCLIPpings, built by `newsclippings build`"
README = f"""\
{TITLE}

Load it with `datasets` alone, no other package needed:

```python
from datasets import load_dataset

dataset = load_dataset("{{folder}}", "{{config}}")
```

{{license}}

What became of the rows of each official file stands in `<config>/{{report}}`.
"""


def build_folder(out: Path, configs: Iterable[str], num_proc: int | None = None, **fields: Any) -> dict[str, Any]:
    """Write some configs as Parquet files, with a README.md whose YAML lets `load_dataset` find them.

    Args:
        out: folder to write to, new or written by this; configs that are in it already are replaced, others stay.
        configs: names of configs.
        num_proc: processes that write at the same time.
        fields: fields of `NewsCLIPpingsConfig` (`data_dir`, `visual_news`, `images`, `missing`, `splits`).

    Returns:
        Config -> split -> join report.

    Raises:
        ConfigError: `images="path"`: a folder that travels cannot refer to files on this machine; or the folder holds
            files that something else wrote.
        NewsCLIPpingsError: as the builder.
    """
    if fields.get("images") == "path":
        message = "images='path' refers to files of this machine; a folder of Parquet files needs 'bytes' or 'none'."
        raise ConfigError(message)
    configs = list(configs)
    _check_ours(out, configs)
    from newsclippings import NewsCLIPpings

    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    reports: dict[str, Any] = {}
    try:
        for config in configs:
            with tempfile.TemporaryDirectory(prefix=".building-", dir=out) as temporary:
                built = Path(temporary, config)
                builder = NewsCLIPpings(config_name=config, **fields)
                builder.download_and_prepare(str(built), file_format="parquet", num_proc=num_proc)
                reports[config] = builder.join_reports
                _place(built, out / config)
            _write_readme(out, config, builder.info)
    finally:
        if new and not any(out.iterdir()):
            out.rmdir()
    return reports


def _check_ours(out: Path, configs: list[str]) -> None:
    """Refuse to replace what `build` did not write."""
    readme = out / "README.md"
    foreign = [readme] if readme.exists() and TITLE.encode() not in readme.read_bytes() else []
    foreign += [out / "newsclippings.py"] if (out / "newsclippings.py").exists() else []  # nothing would load beside it
    for config in configs:
        folder = out / config
        files = folder.iterdir() if folder.is_dir() else [folder] if folder.exists() else []
        foreign += [file for file in files if file.suffix != ".parquet" and file.name != REPORT_FILE]
    if foreign:
        message = (
            f"{out}: expected a new folder, or one that `newsclippings build` wrote, found {foreign[0]}. Nothing was "
            "changed; choose another folder."
        )
        raise ConfigError(message)


def _place(built: Path, folder: Path) -> None:
    """Give the files their published names and put them where they belong."""
    for file in built.iterdir():
        if file.suffix == ".parquet":
            name = file.name.removeprefix("newsclippings-")
            file.rename(built / (name if "-of-" in name else f"{Path(name).stem}-00000-of-00001.parquet"))
        elif file.name != REPORT_FILE:
            file.unlink()  # dataset_info.json and inputs.arrow: what loading needs of them is in README.md
    if folder.exists():
        shutil.rmtree(folder)
    built.rename(folder)


def _write_readme(out: Path, config: str, info: Any) -> None:
    """Add a config to README.md: its files, and what `datasets` wants to know of it."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    file = out / "README.md"
    infos = DatasetInfosDict.from_dataset_card_data(DatasetCard.load(file).data) if file.exists() else {}
    info.download_checksums = None  # these name local paths
    info.description = info.citation = info.homepage = info.license = ""  # said once, below
    infos = {
        name: {**infos, config: info}[name] for name in CONFIGS if name in {*infos, config} and (out / name).is_dir()
    }
    files = {
        name: {
            "data_files": [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in one.splits],
            **({"default": True} if name == DEFAULT_CONFIG else {}),
        }
        for name, one in infos.items()
    }
    data = DatasetCardData(pretty_name="NewsCLIPpings", language=["en"])
    DatasetInfosDict(infos).to_dataset_card_data(data)
    MetadataConfigs(files).to_dataset_card_data(data)
    text = README.format(folder=out.resolve().name, config=next(iter(infos)), license=LICENSE, report=REPORT_FILE)
    with write_atomically(file) as temporary:
        Path(temporary).write_text(f"---\n{data.to_yaml()}\n---\n\n{text}", encoding="utf-8")
