"""The command line: results on stdout, errors as one line on stderr, exit codes 0, 1 and 2."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.reading import environment
from support.world import World

from _newsclippings.cli.commands import main
from _newsclippings.facts import COLUMNS, CONFIGS, ROWS, VERSION
from _newsclippings.show import sheet as sheet_module

COMMANDS = sorted(name for name, command in main.commands.items() if not command.hidden)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    """`--help` says what a command does, with an example that begins with its name."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"newsclippings {command} " in result.stdout


def test_the_group_lists_its_commands() -> None:
    """Without arguments, and with -h, the commands are listed; --version prints the version."""
    assert all(f"  {command} " in run("-h").stdout for command in COMMANDS)
    assert "  infos " not in run("-h").stdout
    assert run("--version").stdout == f"newsclippings, version {VERSION}\n"


def test_outputs_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder in outputs, too: a shell leaves it as it is in `--out=~/file`, and Python always."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("sample", "~/data").exit_code == 0
    assert run("preview", "--data-dir=~/data", "--out=~/pairs.png").exit_code == 0
    assert run("build", "~/built", "--data-dir=~/data", "--images", "none").exit_code == 0
    assert all((tmp_path / name).exists() for name in ("data", "pairs.png", "built"))
    assert not Path("~").exists()


def test_train_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """If torch or transformers are not installed, one line says how to install them."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = run("train", "--data_dir", "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: Training needs torch, transformers")
    assert result.stderr.endswith("not installed: pip install 'newsclippings[train]'.\n")
    assert result.stderr.count("\n") == 1
    assert run("train", "--help").exit_code == 0


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """`python -m newsclippings` is the same command, and its builder has the usual name."""
    command = [sys.executable, "-m", "newsclippings", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), check=True)
    assert done.stdout == f"newsclippings, version {VERSION}\n"


def test_info_shows_where_files_come_from(world: World) -> None:
    """`info` shows local files by path and missing ones by their place on the Hub, as text and JSON."""
    result = run("info", "--data-dir", world.root, "--config", "scene_resnet_place")
    assert result.exit_code == 0, result.output
    assert f"{world.root}/news_clippings/data/scene_resnet_place/val.json" in result.stdout
    assert f"pictures            {world.origin}" in result.stdout
    assert all(name in result.stdout for name in (*CONFIGS, *COLUMNS))
    assert "71,072" in result.stdout
    found = json.loads(run("info", "--data-dir", world.root, "--format", "json").stdout)
    assert found["version"] == VERSION
    assert {name: config["rows"] for name, config in found["configs"].items()} == ROWS
    assert found["sources"]["pictures"] == [str(world.origin)]
    assert found["sources"]["matches"]["validation"].endswith("/data/merged_balanced/val.json")


def test_info_needs_no_data() -> None:
    """Without local files, `info` names the Hub, and reports no pictures."""
    result = run("info")
    assert result.exit_code == 0
    assert "hf://g-luo/news-clippings@" in result.stdout
    assert "not found: pass --visual-news" in result.stdout


def test_a_failed_build_leaves_nothing(new_world: Callable[..., World], tmp_path: Path) -> None:
    """If a picture is missing, nothing is written, the error has no traceback, and the exit code is 1."""
    world = new_world(tar=False)
    (world.origin / world.used_once().image_path).unlink()
    result = run("build", tmp_path / "out", "--data-dir", world.root)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: merged_balanced/")
    assert "Traceback" not in result.stderr
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["preview", "--config", "x"], 2, "'x' is not one of"),
        (["preview", "--pairs", "0"], 2, "0 is not in the range"),
        (["build"], 2, "Missing argument 'OUT'"),
        (["build", "out", "--images", "path"], 2, "'path' is not one of"),
        (["preview", "--data-dir", "nowhere"], 1, "nowhere does not exist"),
        (["preview"], 1, "The pictures of VisualNews were not found"),
        (["preview", "-o", "x.jpg"], 2, "its name must end in .png"),
        (["preview", "--visual-news", "nowhere.tar"], 1, "does not exist"),
        (["dataset-infos", "--check", "nowhere.json"], 1, "out of date. Run `newsclippings dataset-infos nowhere"),
    ],
)
def test_exit_codes_of_wrong_calls(args: list[str], code: int, says: str) -> None:
    """The exit code is 2 for a wrong option and 1 for a failure; the message is on stderr, stdout is empty."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_preview_draws_pairs(world: World, tmp_path: Path) -> None:
    """Twins are side by side, the pristine picture in a green frame and the falsified one in a red."""
    out = tmp_path / "pairs.png"
    result = run("preview", "--data-dir", world.root, "--pairs", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out} (3 pairs)\n"
    with PIL.Image.open(out) as sheet:
        assert sheet.format == "PNG"
        left, twin = sheet_module.MARGIN + sheet_module.PAD + 1, sheet_module.CELL + sheet_module.GAP
        pair = sheet_module.WIDTH + sheet_module.MARGIN
        frames = [sheet.getpixel((left + k // 2 * pair + k % 2 * twin, 300)) for k in range(4)]
    assert frames == [(0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)] * 2


@pytest.mark.parametrize("odd", ["\u2029", "\u2028", "\x85", "\x1c", "\x0b", "\t", "\x00", "\u202e", "\ufeff"])
def test_preview_draws_any_caption(new_world: Callable[..., World], tmp_path: Path, odd: str) -> None:
    """Captions with separators and invisible characters can be drawn by `preview` and `build`."""
    world = new_world()
    records = json.loads(world.data_json.read_text())
    for record in records:
        record["caption"] = f"One{odd}{odd} two{odd}"
    world.data_json.write_text(json.dumps(records))
    for args in (["preview", "-o", tmp_path / "pairs.png"], ["build", tmp_path / "out"]):
        result = run(*args, "--data-dir", world.root)
        assert result.exit_code == 0, result.output


def test_preview_shows_rows_without_pictures(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A row whose picture is missing is drawn without one."""
    world = new_world(tar=False)
    for row in world.rows("merged_balanced", "test"):
        (world.origin / row["image_path"]).unlink(missing_ok=True)
    result = run("preview", "--data-dir", world.root, "-o", tmp_path / "pairs.png", "--pairs", 1)
    assert result.exit_code == 0, result.output
    with PIL.Image.open(tmp_path / "pairs.png") as sheet:
        margins = 2 * sheet_module.MARGIN
        assert sheet.size == (sheet_module.WIDTH + margins, sheet_module.HEIGHT + margins)


def test_preview_goes_on_after_a_damaged_picture(new_world: Callable[..., World], tmp_path: Path) -> None:
    """`preview` succeeds although a picture cannot be decoded."""
    world = new_world(tar=False)
    for row in world.rows("merged_balanced", "test")[:2]:
        (world.origin / row["image_path"]).write_bytes(b"GIF89a but not really")
    result = run("preview", "--data-dir", world.root, "-o", tmp_path / "new" / "pairs.png", "--pairs", 2)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new" / "pairs.png").is_file()


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".txt", ".safetensors"])
def test_convert_embeddings(tmp_path: Path, ending: str) -> None:
    """Vectors and ids are converted to each format; an unknown suffix is refused by name."""
    source, out = tmp_path / "x.pkl", tmp_path / f"x{ending}"
    vectors = {9: np.arange(4, dtype=np.float32), 3: np.ones(4, np.float32)}
    source.write_bytes(pickle.dumps(vectors, protocol=4))
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    result = run("convert-embeddings", source, out)
    if ending == ".txt":
        assert result.exit_code == 1
        assert "'.npy', '.parquet', '.safetensors'" in result.stderr
        return
    assert result.exit_code == 0, result.output
    if ending == ".npy":
        assert result.stdout == f"{out}\n{tmp_path}/x.ids.npy\n"
        assert np.array_equal(np.load(out), np.stack(list(vectors.values())))
        assert np.load(tmp_path / "x.ids.npy").tolist() == [9, 3]
    elif ending == ".parquet":
        assert pq.read_table(out).to_pylist() == [{"id": n, "vector": v.tolist()} for n, v in vectors.items()]


def test_convert_faces(tmp_path: Path) -> None:
    """Faces, with any number of vectors per id, become lists."""
    source, out = tmp_path / "x.pkl", tmp_path / "x.parquet"
    source.write_bytes(pickle.dumps({9: None, 3: np.ones((2, 4), np.float32)}))
    assert run("convert-embeddings", source, out).exit_code == 1
    assert run("convert-embeddings", source, out, "--faces").exit_code == 0
    assert pq.read_table(out).to_pylist() == [{"id": 9, "vector": []}, {"id": 3, "vector": [[1.0] * 4] * 2}]


def test_urls_are_shown_without_secrets(tmp_path: Path) -> None:
    """Passwords and signatures of URLs are in no output of `info`, in text or JSON, and in no error."""
    place = "https://user:pw@host.invalid/origin.tar?sig=SECRET"
    said = [run("info", "--visual-news", place, "--format", form) for form in ("text", "json")]
    said.append(run("info", "--visual-news-index", place))
    assert [result.exit_code for result in said] == [0, 0, 1]
    for result in said:
        assert "https://host.invalid/origin.tar" in result.output + result.stderr
        assert not {"pw@", "SECRET"} & {word for word in ("pw@", "SECRET") if word in result.output + result.stderr}


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    """A file that does not exist is an error that says so."""
    result = run("index", tmp_path / "nope.tar")
    assert result.exit_code == 1
    assert "there is no such file. Correct the path, or put the file there." in result.stderr


def test_folders_of_results_are_created(tmp_path: Path) -> None:
    """Commands create the folder of their output."""
    pickled, out = tmp_path / "v.pkl", tmp_path / "new"
    pickled.write_bytes(pickle.dumps({7: np.ones(4, np.float32)}, 4))
    assert run("convert-embeddings", pickled, out / "a" / "v.npy").exit_code == 0
    assert run("dataset-infos", out / "b" / "infos.json").exit_code == 0
    assert (out / "a" / "v.npy").exists()
    assert (out / "b" / "infos.json").exists()


def test_an_empty_pickle_is_refused(tmp_path: Path) -> None:
    """A pickle without vectors is refused."""
    (tmp_path / "v.pkl").write_bytes(pickle.dumps({}, 2))
    result = run("convert-embeddings", tmp_path / "v.pkl", tmp_path / "v.parquet")
    assert result.exit_code == 1
    assert "expected vectors by id, found none" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command: str) -> None:
    """`--format json` is an option of every command, as are -q and -v."""
    options = {name: option for option in main.commands[command].params for name in option.opts}
    assert {"text", "json"} <= {*options["--format"].type.choices}  # type: ignore[attr-defined]
    assert {"-q", "--quiet", "-v", "--verbose"} <= options.keys()


@pytest.mark.parametrize(
    ("args", "code", "name"),
    [
        (["build"], 2, "MissingParameter"),
        (["preview", "--config", "x"], 2, "BadParameter"),
        (["preview", "--nonsense"], 2, "NoSuchOption"),
        (["preview", "--data-dir", "nowhere"], 1, "DataNotFoundError"),
        (["preview"], 1, "DataNotFoundError"),
        (["index", "nope.tar"], 1, "DataNotFoundError"),
        (["dataset-infos", "--check", "nowhere.json"], 1, "ClickException"),
        (["nonsense"], 2, "NoSuchCommand"),
    ],
)
@pytest.mark.parametrize("form", [["--format", "json"], ["--format=json"]])
def test_errors_are_json_if_asked(args: list[str], code: int, name: str, form: list[str]) -> None:
    """With `--format json` an error is one line of JSON on stderr, with the class; the exit code is the same."""
    plain, result = run(*args), run(*args, *form)
    assert (plain.exit_code, result.exit_code, result.stdout) == (code, code, "")
    error = json.loads(result.stderr)["error"]
    assert (error["class"], error["exit_code"]) in ((name, code), ("UsageError", code))
    assert error["message"] in plain.stderr


def test_a_result_that_is_bad_news_stays_a_result(new_world: Callable[..., World]) -> None:
    """`verify --format json` of inputs that are not sound prints its report, and no error."""
    world = new_world(tar=False)
    (world.origin / world.used_once().image_path).unlink()
    result = run("verify", "--data-dir", world.root, "--format", "json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout)["sound"] is False


def test_files_are_named_in_json(world: World, tmp_path: Path) -> None:
    """Commands that write files name them as JSON."""
    pickled = tmp_path / "v.pkl"
    pickled.write_bytes(pickle.dumps({7: np.ones(4, np.float32)}, 4))
    built = tmp_path / "built"
    assert run("build", built, "--data-dir", world.root, "--images", "none").exit_code == 0
    calls: dict[str, tuple[list[object], object]] = {
        "sample": ([tmp_path / "sample"], {"file": str(tmp_path / "sample")}),
        "dataset-infos": ([tmp_path / "i.json"], {"file": str(tmp_path / "i.json")}),
        "convert-embeddings": ([pickled, tmp_path / "v.parquet"], {"files": [str(tmp_path / "v.parquet")]}),
        "card": ([built], {"file": f"{built}/README.md"}),
        "croissant": ([built], {"file": f"{built}/croissant.json"}),
        "preview": (["--data-dir", world.root, "-o", tmp_path / "p.png"], {"file": f"{tmp_path}/p.png", "pairs": 6}),
    }
    for command, (args, expected) in calls.items():
        result = run(command, *args, "--format", "json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, expected), result.output


def test_all_configs(world: World, tmp_path: Path) -> None:
    """`--config all` is every config."""
    options = ["--images", "none", "--split", "test", "--format", "json", "--data-dir", world.root]
    result = run("build", tmp_path / "all", "--config", "all", *options)
    assert [*json.loads(result.stdout)["reports"]] == [*CONFIGS], result.output
    result = run("verify", "--config", "all", "--data-dir", world.root, "--format", "json")
    assert [*json.loads(result.stdout)["counts"]] == [*CONFIGS]


def test_quiet_and_verbose(new_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """-q logs nothing, not even a warning; -v logs what is done; afterwards the logger is as before."""
    world = new_world(tar=False)
    (world.origin / world.used_once().image_path).unlink()
    logger, out = logging.getLogger("newsclippings"), tmp_path / "out"
    before = (logger.level, [*logger.handlers])
    said = {}
    for flag in ("", "-q", "-v"):
        caplog.clear()
        result = run("build", f"{out}{flag}", "--data-dir", world.root, "--missing", "drop_pair", *filter(None, [flag]))
        assert result.exit_code == 0, result.output
        said[flag] = result.stderr, [record.levelname for record in caplog.records if record.name == "newsclippings"]
        assert (logger.level, [*logger.handlers]) == before
    assert "WARNING" in said[""][1]
    assert said["-q"] == ("", [])
    assert "WARNING" in said["-v"][1]
    assert said["-v"][0].count("\n") == len(said["-v"][1])


def test_the_old_name_of_a_command(tmp_path: Path) -> None:
    """`infos` writes what `dataset-infos` writes, and names it on stderr."""
    new, old = run("dataset-infos", tmp_path / "new.json"), run("infos", tmp_path / "old.json")
    assert (new.stderr, old.exit_code) == ("", 0)
    assert old.stderr == "`newsclippings infos` is now `newsclippings dataset-infos`.\n"
    assert (tmp_path / "new.json").read_bytes() == (tmp_path / "old.json").read_bytes()


def test_env_says_what_an_issue_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`env` has versions, caches and variables as text and JSON, and no secret."""
    hub = tmp_path / "hf" / "hub"
    hub.mkdir(parents=True)
    (hub / "file").write_bytes(b"12345")
    for name, value in {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "hf_verysecret",
        "https_proxy": "http://me:password@proxy:80",
        "AWS_SECRET_ACCESS_KEY": "verysecret",
        "NEWSCLIPPINGS_DATA_DIR": "data",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    text, result = run("env").stdout, run("env", "--format", "json")
    found = json.loads(result.stdout)
    assert found["newsclippings"]["version"] == VERSION
    assert {"click", "datasets", "pyarrow", "pillow"} <= found["libraries"].keys()
    assert "torch" in found["extra train"]
    assert found["caches"]["hub"]["path"] == str(hub)
    assert (found["caches"]["hub"]["bytes"], found["caches"]["hub"]["files"]) == (5, 1)
    assert found["variables"]["NEWSCLIPPINGS_DATA_DIR"] == "data"
    for output in (text, result.stdout):
        assert "http://proxy:80" in output
        assert "verysecret" not in output
        assert "password" not in output


HELP = """
import sys
from _newsclippings.cli import main
for name in [[], *([name] for name in main.commands if name != "train")]:
    main([*name, "--help"], standalone_mode=False)
slow = {"numpy", "pyarrow", "tqdm", "PIL", "fsspec", "datasets", "torch", "urllib.request", "huggingface_hub"}
print(sorted(slow & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    """`--help` of the group and of each command takes a tenth of a second: it imports no slow library."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, env=environment(tmp_path))
    assert done.stderr.strip() == "[]"


def test_shell_completion() -> None:
    """A shell completes commands, options and their values."""
    for words, wanted in (("newsclippings dat", "dataset-infos"), ("newsclippings preview --split t", "train")):
        env = {
            "_NEWSCLIPPINGS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        command = [sys.executable, "-c", "from _newsclippings.cli import main; main(prog_name='newsclippings')"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
        assert f"plain,{wanted}" in done.stdout.splitlines(), done.stderr
