"""A folder of Parquet files that loads by name without this package: `<config>/<split>-00000-of-00001.parquet`."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _newsclippings.assemble import REPORT_FILE
from _newsclippings.errors import ConfigError
from _newsclippings.schema import CONFIGS, DEFAULT_CONFIG, LICENSE

README = """\
# NewsCLIPpings, built

Written by `newsclippings build`. Load it with `datasets` alone, no other package needed:

```python
from datasets import load_dataset

dataset = load_dataset("{folder}", "{config}")
```

{license}

What became of the rows of each official file stands in `<config>/{report}`.
"""


def build_folder(out: Path, configs: Iterable[str], num_proc: int | None = None, **fields: Any) -> dict[str, Any]:
    """Write some configs as Parquet files, with a README.md whose YAML lets `load_dataset` find them.

    Args:
        out: folder to write to; configs that are in it already are replaced, others stay.
        configs: names of configs.
        num_proc: processes that write at the same time.
        fields: fields of `NewsCLIPpingsConfig` (`data_dir`, `visual_news`, `images`, `missing`, `splits`).

    Returns:
        Config -> split -> join report.

    Raises:
        ConfigError: `images="path"`: a folder that travels cannot refer to files on this machine.
        NewsCLIPpingsError: as the builder.
    """
    if fields.get("images") == "path":
        message = "images='path' refers to files of this machine; a folder of Parquet files needs 'bytes' or 'none'."
        raise ConfigError(message)
    if (out / "newsclippings.py").exists():
        message = (
            f"{out}: expected a folder for data, found newsclippings.py in it, so that nothing would load from it."
        )
        raise ConfigError(message)
    from newsclippings import NewsCLIPpings

    out.mkdir(parents=True, exist_ok=True)
    reports: dict[str, Any] = {}
    infos = {}
    for config in configs:
        temporary = out / f".{config}"
        builder = NewsCLIPpings(config_name=config, cache_dir=str(temporary / "cache"), **fields)
        try:
            builder.download_and_prepare(str(temporary / "parquet"), file_format="parquet", num_proc=num_proc)
            reports[config] = builder.join_reports
            infos[config] = builder.info
            _place(temporary / "parquet", out / config)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    _write_readme(out, infos)
    return reports


def _place(built: Path, folder: Path) -> None:
    """Give the files their published names and put them where they belong."""
    for file in built.iterdir():
        if file.suffix == ".parquet":
            name = file.name.removeprefix("newsclippings-")
            file.rename(built / (name if "-of-" in name else f"{file.stem.rpartition('-')[2]}-00000-of-00001.parquet"))
        elif file.name != REPORT_FILE:
            file.unlink()  # dataset_info.json: it is in README.md, and would name local paths
    shutil.rmtree(folder, ignore_errors=True)
    built.rename(folder)


def _write_readme(out: Path, infos: dict[str, Any]) -> None:
    """README.md with the configs that are there, and what `datasets` wants to know of them."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    file = out / "README.md"
    data = DatasetCard.load(file).data if file.exists() else DatasetCardData()
    kept = DatasetInfosDict.from_dataset_card_data(data)
    kept.update(infos)
    present = {config: kept[config] for config in CONFIGS if config in kept and (out / config).is_dir()}
    files = {
        config: {
            "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in info.splits],
            **({"default": True} if config == DEFAULT_CONFIG else {}),
        }
        for config, info in present.items()
    }
    data = DatasetCardData(pretty_name="NewsCLIPpings", language=["en"])
    for info in present.values():
        info.download_checksums = None  # these name local paths
        info.description = info.citation = info.homepage = info.license = ""  # said once, below
    DatasetInfosDict(present).to_dataset_card_data(data)
    MetadataConfigs(files).to_dataset_card_data(data)
    text = README.format(folder=out.name, config=next(iter(present)), license=LICENSE, report=REPORT_FILE)
    file.write_text(f"---\n{data.to_yaml()}\n---\n\n{text}", encoding="utf-8")
