"""`newsclippings push` uploads the folder completely, and nobody sees more than they may."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import PIL.Image
import pytest
import yaml
from click.testing import CliRunner
from support.constants import change_constant
from support.evidence import write_evidence
from support.folders import TWO, build, content
from support.generating import Made
from support.publishing import LOAD, OTHER, PUSH, READ, REPO, WRITE, Hub, checked, python, running, used
from support.reading import expected_splits, jsonable
from support.sampling import WAYS, crossed, sampled
from support.world import World

from _newsclippings.cli.commands import main
from _newsclippings.folder import BuiltFolder, shards, write_card, write_thin
from newsclippings import verify_built

HF = Path(sys.executable).with_name("hf")
OLD_CLIENT = int(huggingface_hub.__version__.partition(".")[0]) < 1  # it uses requests instead of httpx
needs_xet = pytest.mark.skipif(not importlib.util.find_spec("hf_xet"), reason="hf_xet is not installed")
RIGHTS = ("--with-images", "--i-have-the-rights")
OTHER_PYTHON = "NEWSCLIPPINGS_OTHER_PYTHON"
THEIRS = os.environ.get(OTHER_PYTHON)


@pytest.fixture(scope="session")
def running_xet_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running(tmp_path_factory.mktemp("xet"), xet=True) as hub:
        yield hub


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    xet = getattr(request, "param", False)
    yield from used(request.getfixturevalue("running_xet_hub" if xet else "running_hub"))


@pytest.fixture
def xet_hub(running_xet_hub: Hub) -> Iterator[Hub]:
    yield from used(running_xet_hub)


@pytest.fixture(scope="session")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders that are built once; tests get copies."""
    folders: dict[tuple[str, ...], Path] = {}

    def copy(to: Path, *options: str, files: int = 1) -> Path:
        key = (str(files), *options)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("built") / "out"
            with pytest.MonkeyPatch.context() as patch:
                change_constant(patch, "FEWEST", 1 if files == 8 else shards.FEWEST)
                build(world, folders[key], *options)
        return Path(shutil.copytree(folders[key], to))

    return copy


@pytest.fixture
def bare(built: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder without pictures: three Parquet files."""
    return built(tmp_path / "bare", "--images", "none")


@pytest.fixture
def eight(built: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder without pictures: eight Parquet files a split."""
    return built(tmp_path / "eight", "--images", "none", files=8)


def parquet(files: dict[str, str]) -> Counter[str]:
    """The digests of the Parquet files among some files."""
    return Counter(digest for name, digest in files.items() if name.endswith(".parquet"))


# Pushed and loaded


@pytest.mark.parametrize(("part", "streaming"), crossed({"whole": None, "in parts": 20_000}, WAYS))
def test_pushed_and_loaded(
    world: World, hub: Hub, built: Callable[..., Path], tmp_path: Path, part: int | None, streaming: bool
) -> None:
    """Without this package, the repository's name loads every row, with unchanged pictures; streams read ranges."""
    hub.ask("/_reset", {"page": 3, "part": part})
    folder = built(tmp_path / "out", *TWO)
    pushed = hub.push(folder, *RIGHTS)
    assert hub.files() == content(folder)
    parts = hub.log("PUT", "/part/")
    assert bool(parts) == bool(part)
    assert all(0 < entry["received"] <= 20_000 for entry in parts)
    assert pushed["url"] == f"{hub.endpoint}/datasets/{REPO}"
    assert pushed["rows"] == {
        config: {split: len(rows) for split, rows in expected_splits(world, config).items()} for config in TWO[1::2]
    }
    assert hub.load(name=TWO[3], streaming=streaming) == jsonable(expected_splits(world, TWO[3]))
    fetched = hub.log("GET", "^/_cdn/.*parquet")
    assert {(entry["status"], entry["range"] is not None) for entry in fetched} == {
        (206, True) if streaming else (200, False)
    }
    assert {entry["path"].split("/")[2] for entry in fetched} == set(parquet(content(folder / TWO[3])))


def test_a_generated_config_is_pushed_and_loaded(hub: Hub, tmp_path: Path) -> None:
    """Its rows, the names of its methods and its card arrive, next to those of an official config; also twice."""
    made, out = Made(tmp_path / "made"), tmp_path / "built"
    places = ["--data-dir", str(made.out), "--visual-news", str(made.corpus.table)]
    assert CliRunner().invoke(main, ["build", str(out), "--config", "mine", *places]).exit_code == 0
    pushed = hub.push(out, *RIGHTS)
    assert hub.files() == content(out)
    assert pushed["rows"] == {"mine": {split: len(made.rows(split)) for split in ("train", "validation", "test")}}
    assert hub.load(name="mine") == jsonable({split: made.rows(split) for split in ("train", "validation", "test")})
    assert "## Generated configs" in (out / "README.md").read_text()
    assert not hub.push(out, *RIGHTS)["new"]


@pytest.mark.parametrize(
    "hub", [False, pytest.param(True, marks=[needs_xet, pytest.mark.sweep])], ids=["lfs", "xet"], indirect=True
)
def test_no_progress_bars_in_a_file(hub: Hub, bare: Path) -> None:
    """Progress bars, ours and the client's, are shown on terminals only, and not written to a file."""
    env = {name: value for name, value in hub.environment().items() if "DISABLE_PROGRESS_BARS" not in name}
    assert checked(python(PUSH, ["push", REPO, str(bare)], env, bare.parent), 0).err == ""
    assert hub.files() == content(bare)


def test_the_default_config(world: World, hub: Hub, bare: Path, tmp_path: Path) -> None:
    """The repository's name alone loads merged_balanced, and the card's snippet has that name."""
    command = [sys.executable, "-m", "newsclippings", "push", REPO, str(bare)]
    done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, check=True, cwd=tmp_path)
    url, commit = f"{hub.endpoint}/datasets/{REPO}", hub.repo()["branches"]["main"]
    assert done.stdout.splitlines()[-1] == f"{url}: uploaded; tag 1.1.0 at {commit}"
    assert f'load_dataset("{REPO}"' in (bare / "README.md").read_text()
    assert hub.load() == jsonable(expected_splits(world, images="none"))


@pytest.mark.skipif(not HF.exists(), reason="the command `hf` came with huggingface_hub 0.34")
def test_the_hf_command_reads_it(hub: Hub, bare: Path, tmp_path: Path) -> None:
    """`hf download` gives the folder; `hf datasets info` knows the commit."""
    commit = hub.push(bare)["commit"]
    hf = str(HF)
    env = hub.environment()
    down = [hf, "download", REPO, "--repo-type", "dataset", "--local-dir", str(tmp_path / "down")]
    subprocess.run(down, env=env, check=True, capture_output=True)
    got = {name: digest for name, digest in content(tmp_path / "down").items() if not name.startswith(".")}
    assert got == content(bare)
    info = subprocess.run([hf, "datasets", "info", REPO], env=env, check=True, capture_output=True, text=True)
    assert commit in info.stdout


# Visibility


@pytest.mark.parametrize(
    ("options", "private", "gated"),
    [
        ((), True, False),
        (("--public",), False, False),
        (("--gated",), True, "manual"),
        (("--public", "--gated"), False, "manual"),
    ],
)
def test_visibility(hub: Hub, bare: Path, options: tuple[str, ...], private: bool, gated: str | bool) -> None:
    """A repository is private unless --public, and gated with --gated, whether it is new or exists."""
    hub.make("tester/there")
    for repo in (REPO, "tester/there"):
        hub.push(bare, *options, repo=repo)
        about = hub.repo(repo)
        assert (about["private"], about["gated"]) == (private, gated)
        assert hub.files(name=repo) == content(bare)


# Where pictures of an earlier push may be that the folder no longer has: in main, on a branch, under a tag.
HISTORIES = {
    "before": lambda hub, full: hub.push(full, *RIGHTS),
    "branch": lambda hub, full: hub.push(full, *RIGHTS, "--revision", "other"),
    "foreign": lambda hub, full: hub.make(branch="mine", files={"data.csv": "article\n..."}),
}


@pytest.mark.parametrize("where", HISTORIES)
def test_old_pictures_are_not_made_public(
    hub: Hub, bare: Path, built: Callable[..., Path], tmp_path: Path, where: str
) -> None:
    """--public is refused if the history has more than is uploaded now, unless the rights are confirmed."""
    full = built(tmp_path / "full")
    hub.make()
    HISTORIES[where](hub, full)
    hub.push(bare)
    before = hub.repo()
    pushed = hub.push(bare, "--public", code=1)
    assert f"{REPO} is private, and --public would show its whole history. Commit " in pushed.err
    assert "choose another name, or make it public on the Hub yourself." in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert hub.repo() == before
    hub.push(bare, "--public", *RIGHTS)
    assert hub.repo()["private"] is False


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_a_failed_upload_makes_nothing_public(hub: Hub, bare: Path, there: bool) -> None:
    """A repository becomes public only after the upload is complete; the same command then continues."""
    if there:
        hub.push(bare)
        (bare / "dataset_infos.json").unlink()
        (bare / "merged_balanced" / "manifest.json").write_text(
            json.dumps(json.loads((bare / "merged_balanced" / "manifest.json").read_text()), indent=2)
        )
    hub.faults(fault("POST", "/commit/", 400, times=99))
    hub.push(bare, "--public", code=1)
    assert hub.repo()["private"] is True
    hub.faults(fault("POST", "/tag/", "stall"), fault("DELETE", "/tag/", "stall"))
    hub.start_push(bare, "--public").kill_when(lambda: bool(hub.log("", "/tag/")[there:]))
    assert hub.repo()["private"] is True
    hub.faults()
    hub.push(bare, "--public")
    assert (hub.repo()["private"], hub.files()) == (False, content(bare))


def test_gated_before_public(hub: Hub, bare: Path) -> None:
    """A private repository is gated before it is made public."""
    hub.push(bare)
    hub.faults({"method": "PUT", "path": "/settings$", "after": 1, "times": 99, "do": 400})
    hub.push(bare, "--public", "--gated", code=1)
    assert (hub.repo()["private"], hub.repo()["gated"]) == (True, "manual")


def test_nobody_else_reads_a_private_one(hub: Hub, bare: Path, tmp_path: Path) -> None:
    """A private repository cannot be loaded without the owner's token."""
    hub.push(bare)
    for token in (None, OTHER):
        env = hub.environment(token, HF_HOME=str(tmp_path / f"of {token}"), PYTHONPATH="")
        done = python(LOAD, [json.dumps({"path": REPO})], env, tmp_path / "empty")
        assert done.code == 1
        assert "doesn't exist on the Hub or cannot be accessed" in done.err
    assert {entry["status"] for entry in hub.log("GET", "/resolve/") if entry["user"] != "tester"} <= {401, 404}
    assert hub.log("GET", "^/_cdn") == []


def test_a_public_one_is_refused(hub: Hub, bare: Path) -> None:
    """Without --public, pushing to an existing public repository is refused."""
    before = hub.make(private=False)
    pushed = hub.push(bare, code=1)
    assert f"{REPO} is public: pass --public" in pushed.err
    assert hub.repo() == before
    hub.push(bare, "--public")
    assert hub.files() == content(bare)


FOREIGN = [
    {"README.md": "---\nlicense: mit\n---\nMine.\n"},
    {"data.csv": "a\n1\n"},
    {"newsclippings.py": "import os\n"},
    {"merged_balanced/train-00000-of-00001.parquet": "mine"},
    {"images/cat.txt": "mine"},
]


@pytest.mark.parametrize("files", FOREIGN, ids=lambda files: next(iter(files)))
def test_what_others_wrote_is_refused(hub: Hub, bare: Path, files: dict[str, str]) -> None:
    """A repository with files that `push` did not write is refused and stays unchanged."""
    before = hub.make(files=files)
    pushed = hub.push(bare, code=1)
    assert f"Error: {REPO}: the repository has other files in it: expected a new one, or one that" in pushed.err
    assert hub.repo() == before
    assert hub.uploaded() == []


def test_files_of_others_count_on_the_target_branch(hub: Hub, bare: Path) -> None:
    """Files of others matter only on the branch that would be written to."""
    hub.make()
    before = hub.make(branch="mine", files={"README.md": "---\na: b\n---\nMine."})
    pushed = hub.push(bare, "--revision", "mine", code=1)
    assert "found a README.md that it did not write" in pushed.err
    assert hub.repo() == before
    hub.push(bare)
    assert hub.files() == content(bare)


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        (None, REPO, "No token of the Hugging Face Hub: log in by `hf auth login`, or set HF_TOKEN."),
        ("hf_nobody", REPO, "the Hub does not accept your token"),
        (READ, REPO, "your token may not write there (403)"),
        (READ, "tester/there", "your token may not write there (403)"),
        (OTHER, REPO, "your token may not write there (403)"),
        (OTHER, "tester/there", "your token may not write there (403)"),
    ],
)
def test_tokens_that_will_not_do(hub: Hub, bare: Path, token: str | None, name: str, message: str) -> None:
    """For an insufficient token one line says what is wrong, and nothing is uploaded."""
    before = hub.make("tester/there")
    pushed = hub.push(bare, repo=name, token=token, code=1)
    assert message in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert hub.repo("tester/there") == before
    assert hub.repo() is None
    assert bool(hub.log()) == (token is not None)


# What is uploaded


def test_a_dry_run(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """--dry-run reports what would be uploaded, to the byte, changes no file and sends nothing."""
    folder = built(tmp_path / "out")
    before = content(folder)
    pushed = hub.push(folder, *RIGHTS, "--dry-run", "--format", "text", token=None)
    assert hub.log() == []
    assert content(folder) == before
    *listed, total = (line.split(maxsplit=1) for line in pushed.out.splitlines())
    told = {name: int(size.replace(",", "")) for size, name in listed}
    hub.push(folder, *RIGHTS)
    assert told == {name: (folder / name).stat().st_size for name in hub.files()}
    assert {"README.md", "pairs.png", "merged_balanced/manifest.json"} < told.keys()
    assert total == [f"{sum(told.values()):,}", f"bytes in {len(told)} files, 46 rows -> {REPO}"]


@pytest.mark.usefixtures("small_charts")
def test_charts(hub: Hub, bare: Path) -> None:
    """Numbers and charts are uploaded, too; outdated charts are not, and are deleted on the Hub."""
    drawn = CliRunner().invoke(main, ["stats", str(bare), "--plot", str(bare / "charts")])
    charts = {f"charts/{Path(line).name}" for line in drawn.output.splitlines()}
    assert len(charts) == 6
    (bare / "charts" / "notes.txt").write_text("of somebody")
    told = json.loads(hub.push(bare, "--dry-run").out)["files"]
    hub.push(bare)
    assert {name for name in hub.files() if name.startswith("charts/")} == charts
    assert told == {name: (bare / name).stat().st_size for name in hub.files()}
    (bare / "charts" / "stats.json").write_text("{}")
    hub.push(bare)
    assert not [name for name in hub.files() if name.startswith("charts/")]
    assert "](charts/" not in (bare / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("layout", "options"),
    crossed(["bytes", "once"], {" ".join(one): one for one in ((), ("--with-images",), ("--i-have-the-rights",))}),
)
def test_pictures_need_rights(
    world: World, hub: Hub, built: Callable[..., Path], tmp_path: Path, options: tuple[str, ...], layout: str
) -> None:
    """Without both options, pictures and articles stay here: the rest is uploaded, and the folder is not changed."""
    folder = built(tmp_path / "out", *TWO, "--images", layout, "--articles")
    before = content(folder)
    pushed = hub.push(folder, *options)
    assert pushed["left_out"] == ["pictures", "articles"]
    left_out = [line for line in pushed.err.splitlines() if line.startswith("Left out: pictures and articles of Vis")]
    assert len(left_out) == 1
    assert content(folder) == before
    assert {name.partition("/")[0] for name in hub.files()} == {
        "README.md", "dataset_infos.json", "SHA256SUMS", TWO[1], TWO[3]
    }  # fmt: skip
    rows = hub.load(name=TWO[3])
    for split, wanted in jsonable(expected_splits(world, TWO[3])).items():
        assert rows[split] == [{name: value for name, value in row.items() if name != "image"} for row in wanted]
    assert hub.push(folder, *options)["new"] is False


def test_a_benchmark_of_the_hub(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """eval.yaml has a task for the test split of each config; verified and uploaded with pictures and without."""
    folder = built(tmp_path / "out", *TWO)
    assert CliRunner().invoke(main, ["card", "--benchmark", str(folder)]).exit_code == 0
    assert verify_built(folder).sound
    found = yaml.safe_load((folder / "eval.yaml").read_text())
    wanted = [{"id": config, "config": config, "split": "test"} for config in (TWO[1], TWO[3])]
    assert (found["evaluation_framework"], found["tasks"]) == ("newsclippings", wanted)
    for options in ((), RIGHTS):
        hub.push(folder, *options)
        assert hub.files()["eval.yaml"] == content(folder)["eval.yaml"]
    (folder / "eval.yaml").write_text((folder / "eval.yaml").read_text().replace("split: test", "split: train"))
    assert "Run `newsclippings card --benchmark" in hub.push(folder, *RIGHTS, code=1).err
    assert not verify_built(folder).sound
    (folder / "eval.yaml").write_text("mine")
    done = CliRunner().invoke(main, ["card", "--benchmark", str(folder)])
    assert "eval.yaml exists and was not written by `newsclippings card --benchmark`" in done.stderr


def test_evidence_needs_rights(world: World, hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """Web evidence, which CCN gives out on request, stays here, too, unless both options confirm the rights."""
    evidence = write_evidence(world, tmp_path / "ccn")
    folder = tmp_path / "out"
    build(world, folder, "--images", "none", "--evidence", str(evidence.root))
    pushed = hub.push(folder)
    assert pushed["left_out"] == ["web evidence"]
    assert "Left out: web evidence of CCN. To upload all, pass --with-images" in pushed.err
    assert "evidence" not in hub.load(name="merged_balanced")["test"][0]
    hub.push(folder, *RIGHTS)
    assert [row["evidence"] for row in hub.load(name="merged_balanced")["test"]].count(None) == 2
    both = built(tmp_path / "both", "--evidence", str(evidence.root))
    assert "Left out: pictures of VisualNews and web evidence of CCN. Readers add" in hub.push(both).err


def test_pictures_that_stay_here_leave_a_sound_folder(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """What is uploaded without rights is what `verify --built` accepts, and its card shows join_images."""
    folder = built(tmp_path / "out")
    hub.push(folder, "--public")
    assert hub.repo()["private"] is False
    sent = tmp_path / "sent"
    sent.mkdir()
    write_card(write_thin(BuiltFolder.open(folder), ["image"], sent), REPO)
    assert hub.files() == content(sent)
    assert verify_built(sent).sound
    card = (sent / "README.md").read_text(encoding="utf-8")
    assert 'full = join_images(rows, visual_news="/path/to/origin.tar")' in card
    assert "There are no pictures in it" in card


JOIN = """
import json
import newsclippings
from datasets import load_dataset
places = json.loads(sys.argv[2])
for streaming in (False, True):
    rows = newsclippings.join_images(load_dataset(sys.argv[1], split="test", streaming=streaming), visual_news=places)
    print(json.dumps([[row["index"], row["image_path"], row["image"].size] for row in rows]))
"""


def test_what_was_sent_is_completed_by_its_reader(
    world: World, hub: Hub, built: Callable[..., Path], tmp_path: Path
) -> None:
    """A reader loads or streams the rows from the Hub, and adds the pictures of its own zips and tar."""
    hub.push(built(tmp_path / "out"), "--public")
    outlets = sorted({path.split("/")[0] for path in world.pictures})
    for outlet in outlets[:2]:
        with zipfile.ZipFile(tmp_path / f"{outlet}.zip", "w") as archive:
            for path in (path for path in world.pictures if path.startswith(outlet)):
                archive.writestr(path.replace("/images/", "/"), world.pictures[path])
    places = json.dumps([*(str(tmp_path / f"{outlet}.zip") for outlet in outlets[:2]), str(world.tar)])
    done = checked(hub.run(JOIN, REPO, places), 0)
    expected = [
        [row["index"], row["image_path"], [*PIL.Image.open(io.BytesIO(row["image"]["bytes"])).size]]
        for row in world.rows(split="test")
    ]
    assert [json.loads(line) for line in done.out.splitlines()] == [expected, expected]


def test_a_damaged_picture_file_is_refused_without_rights(hub: Hub, built: Callable[..., Path], tmp_path: Path) -> None:
    """Rows are not taken out of a file that differs from its manifest; nothing is asked of the Hub."""
    folder = built(tmp_path / "out")
    file = _own(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "its content changed" in hub.push(folder, code=1).err
    assert hub.log() == []


BESIDE_US = ["me/newsclippings", "me/NewsCLIPpings", "me/newsclippings.py"]
NO_NAMES = ["newsclippings", "a/b/c", "me/bad name!", "me/news--clippings", "me/..", "me/news\nclippings"]


@pytest.mark.parametrize("name", [*BESIDE_US, *NO_NAMES])
def test_names_that_will_not_do(hub: Hub, bare: Path, name: str) -> None:
    """A name that the Hub refuses, or that could not be loaded, is refused before any request."""
    for more in ([], ["--dry-run"]):
        pushed = hub.push(bare, *more, repo=name, code=1)
        assert pushed.err.startswith(f"Error: {name!r}: ")
        assert len(pushed.err.splitlines()) == 1
    assert hub.log() == []


def test_a_damaged_folder_is_refused(hub: Hub, bare: Path) -> None:
    """A file whose size differs from its manifest's is not published."""
    file = bare / "merged_balanced" / "test-00000-of-00001.parquet"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-10])
    pushed = hub.push(bare, code=1)
    assert f"{file}: expected {size:,} bytes, as its manifest says, found {size - 10:,}" in pushed.err
    file.unlink()
    assert f"{file}: expected {size:,} bytes, as its manifest says, found no file" in hub.push(bare, code=1).err
    assert hub.log() == []


def test_a_flipped_byte_is_refused(hub: Hub, bare: Path) -> None:
    """A file with the right size but other content is not published; the error is one line, like verify's."""
    file = bare / "merged_balanced" / "test-00000-of-00001.parquet"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    pushed = hub.push(bare, code=1)
    assert f"Error: {file}: its content changed: expected the SHA-256 " in pushed.err
    assert ". Remove the folder of the config" in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert hub.log() == []


def _own(folder: Path) -> Path:
    return folder / "merged_balanced" / "test-00000-of-00001.parquet"


def _secret(folder: Path) -> Path:
    secret = folder.parent / "secret"
    if not secret.exists():
        secret.write_bytes(b"PAR1" + b"of this machine only" * 1000)
    return secret


def _link(name: str) -> Callable[[Path], None]:
    """Move a file or folder away, and link to it: the content behind the link is right."""

    def act(folder: Path) -> None:
        moved = (folder / name).rename(folder.parent / "moved")
        (folder / name).symlink_to(moved)

    return act


def _instead(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Replace a shard by something else."""

    def act(folder: Path) -> None:
        _own(folder).unlink()
        make(_own(folder))

    return act


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "merged_balanced" / "manifest.json"
        about = json.loads(file.read_text())
        change(about)
        file.write_text(json.dumps(about))

    return act


def _named(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        secret = _secret(folder)
        about = {"split": "test", "rows": 0, "bytes": secret.stat().st_size, "plain_bytes": 0, "sha256": sha256(secret)}
        _manifest(lambda manifest: manifest["files"].update({name.format(secret=secret): about}))(folder)

    return act


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


NOT_PLAIN: dict[str, Callable[[Path], Any]] = {
    **{f"a link for {name}": _link(name) for name in ("README.md", "dataset_infos.json", "SHA256SUMS")},
    "a link for a manifest": _link("merged_balanced/manifest.json"),
    "a link for a shard": lambda folder: _link(f"merged_balanced/{_own(folder).name}")(folder),
    "a link for a config": _link("merged_balanced"),
    "a link for the metadata": lambda folder: (folder / "croissant.json").symlink_to(_secret(folder)),
    "a pipe for a shard": _instead(os.mkfifo),
    "a folder for a shard": _instead(Path.mkdir),
    "a device for a shard": _instead(lambda file: file.symlink_to("/dev/zero")),
    **{
        f"the name {name!r}": _named(name)
        for name in ("../../secret", "{secret}", "../secret", "test-00000-of-00001.parquet/../../../secret", "a\0b", "")
    },
    "a card of somebody": lambda folder: (folder / "README.md").write_text("mine"),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_only_plain_files_are_sent(hub: Hub, bare: Path, what: str) -> None:
    """Links, pipes, devices and names outside the folder are refused before any request; nothing is changed."""
    NOT_PLAIN[what](bare)
    before = content(bare.parent)
    for more in ([], ["--dry-run"]):
        pushed = hub.push(bare, *more, code=1)
        assert len(pushed.err.splitlines()) == 1
        assert pushed.err.startswith("Error: ")
    assert hub.log() == []
    assert content(bare.parent) == before


def test_a_hard_link_is_a_plain_file(hub: Hub, bare: Path) -> None:
    """A hard link is accepted, because it is in the folder and has the right content."""
    os.link(_own(bare), bare.parent / "other name")
    hub.push(bare)
    assert hub.files() == content(bare)


def test_pictures_that_the_manifest_hides_are_refused(hub: Hub, bare: Path, built: Callable[..., Path]) -> None:
    """A file with pictures is refused if its manifest claims it has none."""
    full = built(bare.parent / "full")
    about = json.loads((full / "merged_balanced" / "manifest.json").read_text())["files"][_own(bare).name]
    shutil.copyfile(_own(full), _own(bare))
    _manifest(lambda manifest: manifest["files"].update({_own(bare).name: about}))(bare)
    others = json.loads((bare / "merged_balanced" / "manifest.json").read_text())["files"].values()
    size = sum(one["plain_bytes"] for one in others if one["split"] == "test")
    _manifest(lambda manifest: manifest["splits"]["test"].update(plain_bytes=size))(bare)
    CliRunner().invoke(main, ["card", str(bare)])
    pushed = hub.push(bare, code=1)
    assert "it has the columns index, id, image_id, caption, image, image_path" in pushed.err
    assert hub.log() == []


# Code that runs in the pushing process; `FILE` is a shard, `SECRET` another file of the same size.
CHANGES = {
    "replaced": "os.replace(SECRET, FILE)",
    "linked": "os.unlink(FILE); os.symlink(SECRET, FILE)",
    "written": "open(FILE, 'r+b').write(open(SECRET, 'rb').read())",
    "written, with its times": "t = os.stat(FILE); open(FILE, 'r+b').write(open(SECRET, 'rb').read()); "
    "os.utime(FILE, ns=(t.st_atime_ns, t.st_mtime_ns))",
    "in another folder": "d = os.path.dirname(FILE); os.rename(d, d + '-old'); os.mkdir(d); os.replace(SECRET, FILE)",
}


@pytest.mark.parametrize("hub", [False, pytest.param(True, marks=needs_xet)], ids=["lfs", "xet"], indirect=True)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_the_check(hub: Hub, bare: Path, change: str) -> None:
    """Only checked bytes are committed, whatever replaces a file after the check."""
    file = _own(bare)
    right, secret = sha256(file), bare.parent / "other"
    secret.write_bytes(b"x" * file.stat().st_size)
    wrong = sha256(secret)
    before = f"""
import os
import re
from _newsclippings.hub import upload as push
FILE, SECRET, checked = {str(file)!r}, {str(secret)!r}, push._checked
def swapped(*args):
    additions = checked(*args)
    {CHANGES[change]}
    return additions
push._checked = swapped
"""
    done = hub.start_push(bare, before=before).result()
    assert "Traceback" not in done.err
    assert done.code in (0, 1)
    commits = [] if hub.repo() is None else hub.repo()["commits"]
    sent = {digest for commit in commits for digest in commit["files"].values()}
    assert wrong not in sent
    assert (right in sent) == (done.code == 0)
    if done.code:
        assert hub.repo()["tags"] == {}


def test_a_failed_push_leaves_the_folder(hub: Hub, bare: Path) -> None:
    """After a failed push the folder's card keeps its name; `card --name` can set any."""
    before = content(bare)
    hub.faults(fault("POST", "/commit/", 400, times=99))
    hub.push(bare, code=1)
    assert content(bare) == before
    hub.faults()
    hub.push(bare)
    moved = bare.rename(bare.with_name("moved"))
    for name in ("me/other", "moved"):
        assert CliRunner().invoke(main, ["card", str(moved), "--check", "--name", name]).exit_code == 1
        assert CliRunner().invoke(main, ["card", str(moved), "--name", name]).exit_code == 0
        assert f'load_dataset("{name}", ' in (moved / "README.md").read_text(encoding="utf-8")
        assert CliRunner().invoke(main, ["card", str(moved), "--check"]).exit_code == 0
    assert CliRunner().invoke(main, ["card", str(moved), "--name", ""]).exit_code == 2
    assert CliRunner().invoke(main, ["card", str(moved), "--name", "out"]).exit_code == 0
    assert content(moved) == before


def test_from_a_medium_that_is_read_only(hub: Hub, bare: Path) -> None:
    """A folder on a read-only medium can be pushed; its card keeps its name."""
    before = content(bare)
    refuse = "import _newsclippings.hub.upload as push, errno\n"
    refuse += "def write_text(*_): raise OSError(errno.EROFS, 'Read-only file system')\npush.write_text = write_text\n"
    hub.push(bare, before=refuse)
    assert content(bare) == before
    changed = {"README.md", "SHA256SUMS"}
    assert {name: one for name, one in hub.files().items() if name not in changed}.items() <= before.items()
    assert hub.load() == hub.load(str(bare))


def test_only_the_dataset_is_uploaded(hub: Hub, bare: Path) -> None:
    """Other files in the folder are not uploaded."""
    (bare / "notes.txt").write_text("mine")
    (bare / "pairs.png").write_bytes(b"a picture, which would need rights")
    (bare / ".building").mkdir()
    (bare / ".building" / "train-00000-of-00001.parquet.unfinished").write_text("half")
    (bare / "merged_balanced" / "other.parquet").write_text("mine")
    hub.push(bare)
    ours = {"README.md", "dataset_infos.json", "SHA256SUMS"}
    ours |= {f"merged_balanced/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")}
    assert hub.files().keys() == ours | {"merged_balanced/manifest.json"}


# Pushing again, branches and tags


def test_pushing_again_sends_nothing(hub: Hub, bare: Path) -> None:
    """Pushing the same folder again sends no bytes, makes no commit and leaves the tag."""
    first = hub.push(bare)
    before, uploads = hub.repo(), len(hub.uploaded())
    again = hub.push(bare)
    assert (first["new"], again["new"], again["tag_moved"]) == (True, False, False)
    assert again["commit"] == first["commit"] == before["tags"]["1.1.0"]
    assert hub.repo() == before
    assert len(hub.uploaded()) == uploads == 3
    assert "nothing was new; tag 1.1.0 at" in hub.push(bare, "--format", "text").out


def test_a_changed_folder(world: World, hub: Hub, eight: Path, built: Callable[..., Path], tmp_path: Path) -> None:
    """Files that are no longer in the folder are deleted, the tag moves, and the old commit keeps the old files."""
    first = hub.push(eight)
    assert parquet(hub.files()).total() == 24
    old = hub.files()
    folder = built(tmp_path / "other", "--images", "none", "--split", "test", "--config", "scene_resnet_place")
    second = hub.push(folder)
    assert hub.files() == content(folder)
    assert len(hub.repo()["commits"]) == 3
    assert (second["new"], second["tag_moved"]) == (True, True)
    assert hub.repo()["tags"] == {"1.1.0": second["commit"]}
    assert next(c["files"] for c in hub.repo()["commits"] if c["oid"] == first["commit"]).items() > old.items()
    test = {"test": world.rows("scene_resnet_place", "test", images="none")}
    assert hub.load() == jsonable(test)


def test_a_branch_and_the_tag(world: World, hub: Hub, eight: Path, bare: Path) -> None:
    """--revision writes to a branch; main and the version's tag stay as they are."""
    first = hub.push(bare)
    assert hub.load(revision="1.1.0") == jsonable(expected_splits(world, images="none"))
    before = hub.files()
    pushed = hub.push(eight, "--revision", "next")
    assert (pushed["branch"], pushed["tag"], pushed["tag_moved"]) == ("next", None, False)
    assert hub.files("next") == content(eight)
    assert hub.files("main") == before
    assert hub.repo()["tags"] == {"1.1.0": first["commit"]}
    assert hub.load(revision="next") == jsonable(expected_splits(world, images="none"))
    again = hub.push(eight, "--revision", "next", "--format", "text")
    assert f"nothing was new; branch next, which is not tagged, at {pushed['commit']}" in again.out


@pytest.mark.parametrize("branch", ["", "1.1.0"])
def test_invalid_branches_are_refused(hub: Hub, bare: Path, branch: str) -> None:
    """An empty branch name, or the tag's name, is refused with one line, before any request."""
    for more in ([], ["--dry-run"]):
        pushed = hub.push(bare, "--revision", branch, *more, code=1)
        assert pushed.err.startswith(f"Error: --revision {branch!r}: expected a branch, and 1.1.0 is the tag.")
        assert len(pushed.err.splitlines()) == 1
    assert hub.log() == []


def fault(method: str, path: str, do: int | str, times: int = 1, after: int = 0) -> dict[str, Any]:
    return {"method": method, "path": path, "do": do, "times": times, "after": after}


def test_a_server_that_tags_branches_only(hub: Hub, bare: Path) -> None:
    """If the server can tag only branches, the head of main is tagged by the branch's name."""
    hub.faults(fault("POST", "/tag/[0-9a-f]{40}$", 500, times=100))
    pushed = hub.push(bare)
    assert hub.repo()["tags"] == {"1.1.0": pushed["commit"]}
    tagged = [entry["path"].rpartition("/")[2] for entry in hub.log() if "/tag/" in entry["path"]]
    assert tagged == [pushed["commit"], "main"]


def test_a_server_that_gates_nothing(hub: Hub, bare: Path) -> None:
    """If the server accepts the setting but gates nothing, nothing is uploaded."""
    hub.faults(fault("PUT", "/settings$", 200))
    pushed = hub.push(bare, "--gated", code=1)
    assert "took the setting but does not gate repositories. Nothing was uploaded." in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert hub.files() == {}


# Failures


@pytest.mark.parametrize("path", ["^/api/datasets/tester/[^/]+$", "/refs$", "/revision/"])
def test_an_answer_byte_by_byte(hub: Hub, bare: Path, path: str) -> None:
    """A reply that takes too long ends the push with one line, and is not requested again."""
    hub.faults(fault("GET", path, "drip", times=99))
    pushed = hub.push(bare, code=1, before="import _newsclippings.storage.remote as n; n.TIMEOUT = 0.25\n")
    assert "no whole answer in 1 seconds" in pushed.err
    assert len(pushed.err.splitlines()) == 1
    assert len([entry for entry in hub.log("GET") if re.search(path, entry["path"])]) == 1


PASSING = {
    "create": [fault("POST", "/repos/create$", 500), fault("GET", "^/api/datasets/tester/[^/]+$", 503)],
    "answers lost": [fault("POST", "/repos/create$", "lose"), fault("POST", "/tag/", "lose")],
    "upload 500": [fault("PUT", "^/_lfs/", 500), fault("POST", "/batch$", 503)],
    "upload 408": [fault("PUT", "^/_lfs/", 408)],
    "upload dropped": [fault("PUT", "^/_lfs/", "drop"), fault("POST", "/verify$", "drop")],
    "preupload": [fault("POST", "/preupload/", 429), fault("POST", "/validate-yaml$", 503)],
    "commit": [fault("POST", "/commit/", 412), fault("POST", "/commit/", 500)],
    "commit lost": [fault("POST", "/commit/", "lose")],
    "commit dropped": [fault("POST", "/commit/", "drop")],
    "tag": [fault("GET", "/refs$", 503), fault("POST", "/tag/", 500)],
}


@pytest.mark.parametrize("name", PASSING)
def test_temporary_failures_are_retried(hub: Hub, bare: Path, name: str) -> None:
    """After a temporary failure the push succeeds, in one commit, and sends no file more often than necessary."""
    hub.faults(*PASSING[name])
    pushed = hub.push(bare)
    assert [entry for entry in hub.log() if entry["status"] in (None, 408, 412, 429, 500, 503)] != []
    assert hub.files() == content(bare)
    assert len(hub.repo()["commits"]) == 2
    assert (pushed["new"], hub.repo()["tags"]) == (True, {"1.1.0": pushed["commit"]})
    failed = 1 if name in ("upload 500", "upload 408") else 0
    assert sum(Counter(hub.uploaded()).values()) == 3 + failed
    assert Counter(hub.uploaded()).keys() == parquet(content(bare)).keys()


@pytest.mark.parametrize("do", [503, "drop"])
def test_temporary_failures_of_a_second_push_are_retried(hub: Hub, bare: Path, do: int | str) -> None:
    """A second push reads the existing card, with as many tries as it takes."""
    hub.push(bare)
    before = hub.repo()
    shutil.rmtree(hub.folder / "hf", ignore_errors=True)  # with the card in it
    hub.faults(fault("HEAD", "/README.md$", do), fault("GET", "/tree/", do))
    assert hub.push(bare)["new"] is False
    assert hub.repo() == before


def test_permanent_failures_end_the_push(hub: Hub, bare: Path) -> None:
    """After some tries the push ends with one line that says what to do, and leaves nothing half done."""
    hub.faults(fault("POST", "/commit/", 409, times=99))
    pushed = hub.push(bare, code=1)
    assert f"Error: {REPO}: could not be uploaded (tried 6 times; the last time: " in pushed.err
    assert "Run it again when the Hub answers: files that arrived are not sent again." in pushed.err.splitlines()[-1]
    assert hub.files() == {}
    assert hub.repo()["tags"] == {}
    hub.faults()
    hub.push(bare)
    assert hub.files() == content(bare)
    assert len(hub.uploaded()) == 3


def test_an_upload_that_is_refused(hub: Hub, bare: Path) -> None:
    """A permanent refusal ends the push at once, with one line."""
    hub.faults(fault("PUT", "^/_lfs/", 400, times=99))
    pushed = hub.push(bare, code=1)
    assert pushed.err.splitlines()[-1].startswith(
        f"Error: {REPO}: could not be uploaded (Bad request: injected fault)."
    )
    assert len(hub.log("POST", "/batch$")) == 1


@pytest.mark.parametrize("through", sampled(["HF_ENDPOINT", "http_proxy"], 2))
def test_no_server(hub: Hub, bare: Path, through: str) -> None:
    """If no server or proxy answers, the push ends with one line after some tries."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    env = hub.environment(**{"NO_PROXY": "", "no_proxy": "", through: address})
    code = "from _newsclippings.hub import upload; upload.PAUSE = 0.01\n" + PUSH
    done = checked(python(code, ["push", REPO, str(bare)], env, bare.parent), 1)
    assert f"Error: {REPO}: could not be uploaded (tried 6 times; the last time: " in done.err
    assert len(done.err.splitlines()) == 1
    assert hub.log() == []


def test_offline(hub: Hub, bare: Path) -> None:
    """With HF_HUB_OFFLINE=1 the push ends at once, with one line that names the variable."""
    done = checked(python(PUSH, ["push", REPO, str(bare)], hub.environment(HF_HUB_OFFLINE="1"), bare.parent), 1)
    assert done.err == "Error: HF_HUB_OFFLINE is set, and nothing can be uploaded: unset it. Nothing was uploaded.\n"
    assert hub.log() == []


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_reading_survives_failures(world: World, hub: Hub, bare: Path, streaming: bool) -> None:
    """While rows are streamed, `datasets` retries after 500 and 503, and no row is lost."""
    if OLD_CLIENT and not streaming:
        pytest.skip("this version of huggingface_hub gives up at once")
    hub.push(bare)
    method, path = ("GET", "^/_cdn/.*parquet") if streaming else ("HEAD", "/resolve/.*parquet")
    other = 503 if OLD_CLIENT else 500  # which `datasets` takes as final
    hub.faults(fault(method, path, 503), fault(method, path, other, after=1))
    assert hub.load(streaming=streaming) == jsonable(expected_splits(world, images="none"))
    assert [entry["status"] in (500, 503) for entry in hub.log(method, path)].count(True) == 2


def test_killed_while_uploading(hub: Hub, eight: Path) -> None:
    """After a kill in the middle of the upload, the next push sends the other files, and all are there."""
    hub.faults(fault("PUT", "^/_lfs/", "stall", times=99, after=11))
    hub.start_push(eight).kill_when(
        lambda: len(hub.uploaded()) == 11 and any(entry["status"] is None for entry in hub.log("PUT"))
    )
    hub.faults()
    assert hub.files() == {}
    done = set(hub.uploaded())
    pushed = hub.push(eight)
    assert hub.files() == content(eight)
    assert not done & set(hub.uploaded()[11:])
    assert set(hub.uploaded()) == set(parquet(content(eight)))
    assert hub.repo()["tags"] == {"1.1.0": pushed["commit"]}


def test_killed_between_commit_and_tag(hub: Hub, bare: Path) -> None:
    """After a kill between commit and tag, the next push only sets the tag."""
    hub.faults(fault("POST", "/tag/", "stall"))
    hub.start_push(bare).kill_when(lambda: bool(hub.log("POST", "/tag/")))
    hub.faults()
    assert hub.repo()["tags"] == {}
    pushed = hub.push(bare)
    assert pushed["new"] is False
    assert hub.repo()["tags"] == {"1.1.0": pushed["commit"]}
    assert len(hub.repo()["commits"]) == 2


def test_two_at_once(hub: Hub, bare: Path, eight: Path) -> None:
    """After two pushes at the same time the repository has one of the folders, never a mixture."""
    hub.faults(fault("POST", "/commit/", "hold"))
    first = hub.start_push(eight)
    first.until(lambda: bool(hub.log("POST", "/commit/")))
    hub.push(bare)
    assert hub.files() == content(bare)
    hub.faults()
    checked(first.result(), 0)
    assert hub.log("POST", "/commit/")[0]["status"] == 412
    assert hub.files() == content(eight)


# Xet


@needs_xet
@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_through_xet(world: World, xet_hub: Hub, built: Callable[..., Path], tmp_path: Path, streaming: bool) -> None:
    """The real hf_xet stores and reads the files; pushing again stores nothing new."""
    hub, folder = xet_hub, built(tmp_path / "out")
    assert hub.push(folder, *RIGHTS)["new"] is True
    assert hub.files() == content(folder)
    assert hub.log("POST", "/batch$") == []
    before, bytes_before = hub.repo(), hub.stored()
    rows = hub.load(streaming=streaming)
    assert rows == jsonable(expected_splits(world))
    assert bool(hub.log("GET", "/xet-read-token/")) == (not streaming)
    assert {entry["status"] for entry in hub.log("GET", "^/_cdn/.*parquet")} == ({206} if streaming else set())
    assert hub.push(folder, *RIGHTS)["new"] is False
    assert hub.repo() == before
    assert hub.stored() == bytes_before


@needs_xet
def test_killed_before_the_commit_through_xet(xet_hub: Hub, eight: Path) -> None:
    """After a kill before the commit, chunks that were stored are not stored again."""
    hub = xet_hub
    hub.faults(fault("POST", "/commit/", "stall"))
    hub.start_push(eight).kill_when(lambda: bool(hub.log("POST", "/commit/")))
    hub.faults()
    before = hub.stored()
    hub.push(eight)
    assert hub.files() == content(eight)
    assert hub.stored() == before


@needs_xet
def test_temporary_xet_failures_are_retried(xet_hub: Hub, bare: Path) -> None:
    """The push is retried if the Xet token or the commit fails at first."""
    xet_hub.faults(fault("GET", "/xet-write-token/", "drop"), fault("POST", "/commit/", 412))
    xet_hub.push(bare)
    assert xet_hub.files() == content(bare)
    assert len(xet_hub.repo()["commits"]) == 2


@needs_xet
def test_permanent_xet_failures_end_the_push(xet_hub: Hub, bare: Path) -> None:
    """Without access to the Xet store the push ends at once, with one line."""
    xet_hub.faults(fault("GET", "/xet-write-token/", 403, times=99))
    pushed = xet_hub.push(bare, code=1)
    assert pushed.err.splitlines()[-1].startswith(f"Error: {REPO}: your token may not write there (403)")
    assert len(xet_hub.log("GET", "/xet-write-token/")) == 1
    assert xet_hub.files() == {}


@needs_xet
def test_all_in_one_commit(xet_hub: Hub, eight: Path, built: Callable[..., Path], tmp_path: Path) -> None:
    """A branch has the complete old or the complete new folder; after a kill before the commit, the old one."""
    hub = xet_hub
    hub.push(eight)
    assert hub.files() == content(eight) == hub.files("1.1.0")
    commits = len(hub.repo()["commits"])
    old = hub.files()
    folder = built(tmp_path / "other", *TWO, "--images", "none", files=8)
    hub.faults(fault("POST", "/commit/", "stall"))
    hub.start_push(folder).kill_when(lambda: len(hub.log("POST", "/commit/")) > 1)
    hub.faults()
    assert hub.files() == old == hub.files("1.1.0")
    hub.push(folder)
    assert hub.files() == content(folder) == hub.files("1.1.0")
    assert len(hub.repo()["commits"]) == commits + 1


@needs_xet
def test_a_hub_without_xet(xet_hub: Hub, bare: Path) -> None:
    """If the server has no Xet, one line says what to set, and does not blame the token."""
    xet_hub.faults(fault("GET", "/xet-write-token/", 404, times=99))
    pushed = xet_hub.push(bare, code=1)
    assert pushed.err.splitlines()[-1].startswith(f"Error: {REPO}: this Hub does not store files by Xet")
    assert "set HF_HUB_DISABLE_XET=1" in pushed.err
    assert xet_hub.files() == {}


# Secrets and other versions of `datasets`


def test_the_token_is_stored_nowhere(hub: Hub, bare: Path) -> None:
    """No file of the folder or repository has the token (nor do stdout and stderr, see `checked`)."""
    hub.push(bare)
    hub.faults(fault("POST", "/preupload/", 400, times=99))
    hub.push(bare, code=1)
    for file in (path for folder in (bare, hub.folder) for path in folder.rglob("*") if path.is_file()):
        assert WRITE.encode() not in file.read_bytes()


@pytest.mark.skipif(not THEIRS, reason=f"{OTHER_PYTHON} names no interpreter with another version of `datasets`")
@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_another_version_reads_it(
    world: World, hub: Hub, built: Callable[..., Path], tmp_path: Path, streaming: bool, place: str
) -> None:
    """Another version of `datasets` reads what this one wrote: pictures, texts and nested metadata."""
    env = hub.environment(PYTHONPATH="", HF_HOME=str(tmp_path / "hf"))
    assert THEIRS
    for name, options in {"two": TWO, "texts": ["--images", "none", "--metadata", "--articles"]}.items():
        folder = built(tmp_path / name, *options)
        hub.push(folder, *RIGHTS, repo=f"tester/{name}")
        path = str(folder) if place == "folder" else f"tester/{name}"
        rows = python(
            LOAD, [json.dumps({"path": path, "streaming": streaming})], env, tmp_path / "empty", THEIRS
        ).rows()
        assert rows == (jsonable(expected_splits(world)) if name == "two" else hub.load(str(folder)))
        shutil.rmtree(folder)
