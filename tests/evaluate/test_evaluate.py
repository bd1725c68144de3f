"""`newsclippings evaluate`: files of any kind, truth from the matches, problems named, models compared."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.constants import change_constant
from support.folders import build
from support.world import World, make_world

import newsclippings
from _newsclippings.evaluate import MEASURES, load_truth

stats = pytest.importorskip("scipy.stats")
metrics = pytest.importorskip("sklearn.metrics")

Rows = list[dict[str, Any]]
PAIRS = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with enough pairs for statistics. Shared: never change it."""
    return make_world(
        tmp_path_factory.mktemp("data") / "data", tar=False, pairs={"train": 4, "validation": 20, "test": PAIRS}
    )


def predict(world: World, seed: int = 0, split: str = "test", skill: float = 1.0) -> Rows:
    """Predictions of a model of some skill."""
    random = np.random.default_rng(seed)
    rows = world.rows(split=split)
    noise = random.normal(0, 1, len(rows)) + skill * np.array([row["falsified"] for row in rows])
    return [
        {"index": row["index"], "score": float(1 / (1 + np.exp(0.5 - x)))} for row, x in zip(rows, noise, strict=True)
    ]


def write(file: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows in the form that the name of the file asks for."""
    rows = [*rows]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix in (".csv", ".tsv"):
        with open(file, "w", newline="") as out:
            writer = csv.DictWriter(out, [*rows[0]], delimiter="\t" if file.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def evaluated(world: World, *args: object) -> dict[str, Any]:
    result = run("evaluate", *args, "--data-dir", world.root, "--format", "json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_json_has_its_shape(data: World, tmp_path: Path) -> None:
    """Signature, counts, measures and breakdowns, with values of scikit-learn on the official labels."""
    rows = predict(data)
    found = evaluated(data, write(tmp_path / "a.jsonl", rows))
    assert [*found] == ["signature", "rows", "measures", "by"]
    assert found["rows"] == {"expected": 80, "found": 80, "missing": 0, "unknown": 0, "doubled": 0}
    assert [*found["measures"]] == [*MEASURES]
    truth = [row["falsified"] for row in data.rows(split="test")]
    score = [row["score"] for row in rows]
    assert found["measures"]["auc"]["value"] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-12)
    assert all(one["low"] <= one["high"] for one in found["measures"].values())
    digest = load_truth("merged_balanced", "test", str(data.root)).digest
    assert found["signature"] == (
        f"newsclippings|v:{newsclippings.__version__}|config:merged_balanced|split:test|rows:80/80|matches:{digest}"
        "|missing:0|thr:0.5|ci:pairs,2000,seed0"
    )


def test_breakdowns_are_those_of_the_rows(data: World, tmp_path: Path) -> None:
    """Rows by sub-split, outlet, topic and year of the caption, and pairs by whether their outlets are the same."""
    rows = predict(data)
    expected: dict[str, dict[str, list[bool]]] = {}
    official = data.rows(split="test")
    for row, own in zip(rows, official, strict=True):
        twins = [other for other in official if other["index"] // 2 == own["index"] // 2]
        time = data.records[own["id"]].timestamp
        keys = {
            "source_dataset": ("semantics_clip_text_image", "semantics_clip_text_text", "scene_resnet_place",
                               "person_sbert_text_text")[own["source_dataset"]],
            "outlet": own["source"],
            "outlet_pair": "same" if all(twin["source"] == twin["image_source"] for twin in twins) else "mixed",
            "topic": own["topic"],
            "year": "unknown" if time.startswith("1900") else time[:4],
        }  # fmt: skip
        for name, key in keys.items():
            expected.setdefault(name, {}).setdefault(key, []).append((row["score"] > 0.5) == own["falsified"])
    by = evaluated(data, write(tmp_path / "a.jsonl", rows))["by"]
    found = {
        n: {key: (o["rows"], o["measures"]["accuracy"]["value"]) for key, o in keys.items()} for n, keys in by.items()
    }
    assert found == {
        n: {key: (len(r), pytest.approx(np.mean(r))) for key, r in keys.items()} for n, keys in expected.items()
    }


def test_an_index_of_floats(data: World, tmp_path: Path) -> None:
    """Data frames leave integers as floats, such as 3.0 in CSV."""
    rows = predict(data)
    file = write(tmp_path / "a.csv", [{**row, "index": float(row["index"])} for row in rows])
    assert evaluated(data, file) == evaluated(data, write(tmp_path / "b.jsonl", rows))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "-"])
@pytest.mark.parametrize("keyed", ["index", "id and image_id"])
def test_every_form_gives_the_same(
    data: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keyed: str
) -> None:
    """JSON lines, CSV, TSV, Parquet and standard input, in any order, by index or by ids."""
    rows = predict(data)
    expected = evaluated(data, write(tmp_path / "expected.jsonl", rows))
    if keyed != "index":
        for row, own in zip(rows, data.rows(split="test"), strict=True):
            del row["index"]
            row |= {"id": own["id"], "image_id": own["image_id"]}
    rows = [{**row, "note": "ignored, and quoted"} for row in rows[::-1]]
    if name == "-":
        content = write(tmp_path / "b.jsonl", rows).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        found = newsclippings.evaluate("-", data_dir=data.root).as_dict()
    else:
        found = evaluated(data, write(tmp_path / name, rows))
    assert json.loads(json.dumps(found)) == expected


def test_rows_in_memory_and_a_built_folder(data: World, tmp_path: Path) -> None:
    """Rows as dicts give the same as a file, and a built folder the same truth, year excepted."""
    rows = predict(data)
    expected = newsclippings.evaluate(write(tmp_path / "a.jsonl", rows), data_dir=data.root)
    assert newsclippings.evaluate(rows, data_dir=data.root).as_dict() == expected.as_dict()
    for metadata in (True, False):
        folder = tmp_path / f"built-{metadata}"
        build(data, folder, "--images", "none", *(["--metadata"] if metadata else []))
        found = newsclippings.evaluate(rows, built=folder)
        without = {name: keys for name, keys in expected.as_dict()["by"].items() if name != "year" or metadata}
        assert found.as_dict() == {**expected.as_dict(), "by": without}
        assert any("by year" in note for note in found.notes) is not metadata


def test_breakdowns_without_metadata_are_left_out(data: World, tmp_path: Path) -> None:
    """Of matches alone, one line says what is left out, and why."""
    (tmp_path / "bare" / "news_clippings").mkdir(parents=True)
    (tmp_path / "bare" / "news_clippings" / "data").symlink_to(data.root / "news_clippings" / "data")
    result = run(
        "evaluate", write(tmp_path / "a.jsonl", predict(data)), "--data-dir", tmp_path / "bare", "--format", "json"
    )
    assert [*json.loads(result.stdout)["by"]] == ["source_dataset"]
    assert result.stderr.startswith("Left out: breakdowns by outlet, outlet_pair, topic and year, since neither")
    assert result.stderr.count("\n") == 1


def test_a_breakdown_of_too_many_groups_is_left_out(data: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of anybody may have a topic for each row, which would take hours."""
    change_constant(monkeypatch, "MOST_KEYS", 4, "evaluation")
    found = newsclippings.evaluate(predict(data), data_dir=data.root)
    assert found.notes == ["Left out: the breakdown by topic, which has more than 4 groups."]
    assert [*found.as_dict()["by"]] == ["source_dataset", "outlet", "outlet_pair", "year"]


Change = Callable[[Rows], Any]
PROBLEMS: dict[str, tuple[Change, str]] = {
    "partial": (
        lambda rows: rows.__delitem__(slice(3, 7)),
        r"4 of 80 rows are missing \(index 3, index 4, index 5, \.\.\.\)",
    ),
    "doubled": (lambda rows: rows.insert(5, dict(rows[2])), r"1 row is doubled \(line 6: index 2\)"),
    "unknown": (lambda rows: rows.append({"index": 80, "score": 1}), r"1 row is unknown \(line 81: index 80\)"),
    "NaN": (lambda rows: rows[7].update(score=float("nan")), r"1 row is NaN or empty \(index 7\)"),
    "infinite": (lambda rows: rows[7].update(score=1e999), r"1 row is NaN or empty \(index 7\)"),
    "null": (lambda rows: rows[7].update(score=None), r"1 row is NaN or empty \(index 7\)"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problems_are_named(data: World, tmp_path: Path, problem: str) -> None:
    """Each problem has a count, the first rows and exit code 1; with --partial it is a note, and the row is wrong."""
    rows = predict(data, skill=9)
    PROBLEMS[problem][0](rows)
    file = write(tmp_path / "a.jsonl", rows)
    result = run("evaluate", file, "--data-dir", data.root)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(PROBLEMS[problem][1], result.stderr)
    assert "--partial" in result.stderr
    result = run("evaluate", file, "--data-dir", data.root, "--partial", "--format", "json")
    assert result.exit_code == 0
    assert re.search(PROBLEMS[problem][1], result.stderr)
    found = json.loads(result.stdout)
    assert found["rows"]["missing"] == {"partial": 4, "doubled": 0, "unknown": 0}.get(problem, 1)
    assert found["rows"]["expected"] - found["rows"]["missing"] == found["rows"]["found"]


def test_missing_rows_count_as_wrong(data: World) -> None:
    """In labels, in ranks and in pairs: as an answer that is as wrong as can be."""
    rows = predict(data)
    found = newsclippings.evaluate(rows[:60], data_dir=data.root, partial=True).values
    worst = [
        *rows[:60],
        *({"index": row["index"], "score": 1.0 if row["index"] % 2 == 0 else 0.0} for row in rows[60:]),
    ]
    assert found == pytest.approx(newsclippings.evaluate(worst, data_dir=data.root).values)


def test_flipped_labels_are_refused(data: World, tmp_path: Path) -> None:
    """A file in which 1 is pristine is refused; one whose labels differ in a few rows is measured, with a note."""
    rows = [{**row, "label": 1 - row["index"] % 2} for row in predict(data)]
    result = run("evaluate", write(tmp_path / "a.jsonl", rows), "--data-dir", data.root, "--partial")
    assert result.exit_code == 1
    assert "the labels are flipped in all 80 rows" in result.stderr
    rows = [{**row, "label": "fake" if row["index"] % 2 == 1 or row["index"] == 4 else "real"} for row in predict(data)]
    result = run("evaluate", write(tmp_path / "b.jsonl", rows), "--data-dir", data.root)
    assert result.exit_code == 0
    assert "1 row is of another label than the official row, which counts (index 4)." in result.stderr


NOTES: dict[str, tuple[Callable[[dict[str, Any], float], float], str]] = {
    "flipped": (lambda row, score: 1 - score, r"The scores seem flipped \(AUC 0\.\d+\)"),
    "constant": (lambda row, score: 0.25, r"All scores are constant \(0\.25\)"),
    "parity": (lambda row, score: row["index"] % 2 + score / 9, "follow the parity of the row's index exactly"),
    "logits": (
        lambda row, score: 9 * score - 4,
        r"not all in \[0, 1\]: .* left out\. .* \(0 for logits\)\? .* --threshold",
    ),
    "similarity": (
        lambda row, score: -(row["similarity_score"] ** 3),
        r"follow similarity_score \(rank correlation -1\.000",
    ),
}


@pytest.mark.parametrize("what", NOTES)
def test_suspicious_scores_are_noted(data: World, tmp_path: Path, what: str) -> None:
    """Scores that no model gives are measured, and a line says what is odd; honest ones have no such line."""
    official = data.rows(split="test")
    rows = predict(data, skill=2)
    assert newsclippings.evaluate(rows, data_dir=data.root).notes == []
    rows = [{**row, "score": NOTES[what][0](own, row["score"])} for row, own in zip(rows, official, strict=True)]
    result = run("evaluate", write(tmp_path / "a.jsonl", rows), "--data-dir", data.root)
    assert result.exit_code == 0
    assert re.search(NOTES[what][1], result.stderr)


def test_rows_of_another_config_are_unknown(data: World, tmp_path: Path) -> None:
    """An index whose ids are not those of the official row is unknown, and is not measured."""
    rows = [
        {**row, "id": own["id"] + (row["index"] == 9)}
        for row, own in zip(predict(data), data.rows(split="test"), strict=True)
    ]
    result = run("evaluate", write(tmp_path / "a.csv", rows), "--data-dir", data.root)
    assert result.exit_code == 1
    assert "1 of 80 rows are missing (index 9); 1 row is unknown (line 11: index 9, id " in result.stderr


@pytest.mark.parametrize(
    "words",
    [(0, 1), (False, True), ("pristine", "falsified"), ("Real", "FAKE"), ("0", "1"), ("false", "true"), (0.0, 1.0)],
)
def test_hard_labels_in_any_spelling(data: World, words: tuple[Any, Any]) -> None:
    """Labels without scores give what labels allow; other measures are null."""
    scored = predict(data)
    rows = [{"index": row["index"], "label_predicted": words[row["score"] > 0.5]} for row in scored]
    found = newsclippings.evaluate(rows, data_dir=data.root)
    expected = newsclippings.evaluate(scored, data_dir=data.root).values
    labels = [name for name in MEASURES if name.startswith(("acc", "bal", "f1")) and name != "accuracy_at_eer"]
    assert found.values == {name: expected[name] if name in labels else None for name in MEASURES}
    assert "|thr:labels|" in found.signature


def test_abstained_rows_are_wrong(data: World) -> None:
    """A row that abstains counts as wrong, but is not missing."""
    rows = [{**row, "abstained": row["index"] < 5} for row in predict(data)]
    found = newsclippings.evaluate(rows, data_dir=data.root)
    assert found.values == newsclippings.evaluate(rows[5:], data_dir=data.root, partial=True).values
    assert found.notes == ["5 rows abstain, and count as wrong."]
    assert found.systems[0].answers.counts["missing"] == 0


def test_a_threshold_chosen_on_validation(data: World, tmp_path: Path) -> None:
    """`val:FILE` chooses the threshold with the highest accuracy on validation, and the signature names it."""
    validation = predict(data, 5, "validation")
    file = write(tmp_path / "val.jsonl", validation)
    found = newsclippings.evaluate(predict(data), data_dir=data.root, threshold=f"val:{file}")
    (chosen,) = re.findall(r"thr:val,([\d.]+)", found.signature)
    truth = [row["index"] % 2 for row in validation]
    accuracies = {t: np.mean([(row["score"] > t) == y for row, y in zip(validation, truth, strict=True)]) for t in
                  [float(chosen), *(row["score"] for row in validation)]}  # fmt: skip
    assert accuracies[float(chosen)] == max(accuracies.values())
    assert (
        found.values["accuracy"]
        == newsclippings.evaluate(predict(data), data_dir=data.root, threshold=float(chosen)).values["accuracy"]
    )
    both = newsclippings.evaluate(predict(data), predict(data, 1), data_dir=data.root, threshold=[0.25, f"val:{file}"])
    assert ["thr:0.25" in both.systems[0].signature, "thr:val" in both.systems[1].signature] == [True, True]


def test_two_models_are_compared(data: World, tmp_path: Path) -> None:
    """Differences, exact McNemar on rows and on pairs, and Holm over all, against independent computations."""
    files = [write(tmp_path / f"{k}.jsonl", predict(data, k, skill=1 + k)) for k in range(3)]
    found = evaluated(data, *files)
    assert [*found] == ["systems", "comparisons"]
    assert [system["name"] for system in found["systems"]] == [str(file) for file in files]
    scores = np.array([[row["score"] for row in predict(data, k, skill=1 + k)] for k in range(3)])
    right = (scores > 0.5) == (np.arange(80) % 2)
    pairs = scores[:, 1::2] > scores[:, ::2]
    expected = []
    for other in (1, 2):
        for each in (right, pairs):
            only = int((each[0] & ~each[other]).sum()), int((each[other] & ~each[0]).sum())
            expected.append(stats.binomtest(only[0], sum(only)).pvalue)
    accuracies = [one for one in found["comparisons"] if one["measure"] == "accuracy"]
    assert [(one["a"], one["b"]) for one in accuracies] == [(str(files[0]), str(file)) for file in files[1:]]
    assert [p for one in accuracies for p in (one["mcnemar_p"], one["mcnemar_pairs_p"])] == pytest.approx(expected)
    smaller, larger = sorted(expected[::2])
    assert sorted(one["holm_p"] for one in accuracies) == pytest.approx([min(1, 2 * smaller), max(2 * smaller, larger)])
    random = np.random.default_rng(9)
    draws = []
    for _ in range(2000):
        picked = random.integers(0, PAIRS, PAIRS)
        rows = np.concatenate([2 * picked, 2 * picked + 1])
        draws.append(right[0, rows].mean() - right[1, rows].mean())
    assert accuracies[0]["difference"] == pytest.approx(right[0].mean() - right[1].mean())
    assert [accuracies[0]["low"], accuracies[0]["high"]] == pytest.approx(
        [*np.percentile(draws, [2.5, 97.5])], abs=0.02
    )
    assert {one["measure"] for one in found["comparisons"]} == {*MEASURES}
    text = run("evaluate", *files[:2], "--data-dir", data.root).stdout
    counts = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert f"rows that only one gets right: {counts[0]} and {counts[1]}" in text


def test_seeds_are_summarised(data: World, tmp_path: Path) -> None:
    """`--group`: mean and standard deviation over files, and no comparisons."""
    files = [write(tmp_path / f"{k}.jsonl", predict(data, k)) for k in range(4)]
    found = evaluated(data, *files, "--group")
    values = [system["measures"]["auc"]["value"] for system in found["systems"]]
    assert found["comparisons"] == []
    assert found["group"]["auc"]["mean"] == pytest.approx(np.mean(values))
    assert found["group"]["auc"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert "4 seeds" in run("evaluate", *files, "--group", "--data-dir", data.root).stdout


def test_clusters_of_pairs_that_share_pictures(data: World) -> None:
    """Pairs are in one cluster exactly if shared pictures lead from one to the other."""
    truth = load_truth("merged_balanced", "test", str(data.root))
    clusters = truth.units("pictures")
    shown = [set(truth.image_ids[2 * k : 2 * k + 2].tolist()) for k in range(PAIRS)]
    groups: list[set[int]] = []
    for pictures in shown:
        linked = [group for group in groups if group & pictures]
        groups = [group for group in groups if not group & pictures] + [pictures.union(*linked)]
    assert len(np.unique(clusters)) == len(groups) < PAIRS
    for k in range(PAIRS):
        assert {*clusters[2 * k : 2 * k + 2].tolist()} == {clusters[2 * k]}
        for j in range(PAIRS):
            together = any(shown[k] <= group and shown[j] <= group for group in groups)
            assert (clusters[2 * k] == clusters[2 * j]) == together
    found = newsclippings.evaluate(predict(data), data_dir=data.root, cluster="pictures")
    assert found.signature.endswith("|ci:pictures,2000,seed0")
    largest = np.bincount(clusters).max() / len(clusters)
    note = f"One cluster has {largest:.0%} of the rows, so intervals are too narrow. Use cluster='pairs'."
    assert found.notes == ([note] if largest > 0.1 else [])


def test_the_other_forms(data: World, tmp_path: Path) -> None:
    """Markdown, LaTeX and CSV have all measures; CSV has them with all digits."""
    files = [write(tmp_path / f"{k}_%.jsonl", predict(data, k)) for k in range(2)]
    found = evaluated(data, *files)

    def output(form: str) -> str:
        result = run("evaluate", *files, "--data-dir", data.root, "--format", form)
        assert result.exit_code == 0
        return result.stdout

    markdown, latex = output("markdown"), output("latex")
    value = found["systems"][0]["measures"]["auc"]["value"]
    assert f"| auc | {value:.4f} [" in markdown
    assert f"auc & {value:.4f} [" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") > 3
    assert r"0\_\%.jsonl" in latex
    rows = [*csv.DictReader(io.StringIO(output("csv")))]
    whole = {(row["system"], row["measure"]): row for row in rows if row["by"] == ""}
    assert float(whole[str(files[0]), "auc"]["value"]) == value
    assert {row["by"] for row in rows} == {"", "difference", *found["systems"][0]["by"]}


def test_plots_are_written_and_replaced(data: World, tmp_path: Path) -> None:
    """ROC, reliability and accuracy by source dataset; files of others, and inputs, stay."""
    pytest.importorskip("matplotlib")
    files, out = [write(tmp_path / f"{k}.jsonl", predict(data, k)) for k in range(2)], tmp_path / "plots"
    for count in (2, 1):
        result = run("evaluate", *files[:count], "--data-dir", data.root, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert sorted(file.name for file in out.iterdir()) == ["reliability.png", "roc.png", "source_dataset.png"]
    partial = write(tmp_path / "partial.jsonl", predict(data)[5:40])
    assert run("evaluate", partial, "--partial", "--data-dir", data.root, "--out", out).exit_code == 0
    labels = write(tmp_path / "labels.csv", [{"index": k, "label_predicted": k % 3 % 2} for k in range(80)])
    assert run("evaluate", labels, "--data-dir", data.root, "--out", out).exit_code == 0
    assert [file.name for file in out.iterdir()] == ["source_dataset.png"]
    (out / "roc.png").write_bytes(b"mine")
    result = run("evaluate", files[0], "--data-dir", data.root, "--out", out)
    assert result.exit_code == 1
    assert "roc.png exists and was not written by `newsclippings evaluate`" in result.stderr
    assert (out / "roc.png").read_bytes() == b"mine"
    result = run("evaluate", files[0], "--data-dir", data.root, "--out", data.origin / "plots")
    assert result.exit_code == 1
    assert "roc.png is inside a folder of inputs" in result.stderr


def test_foreign_text_is_printed_as_data(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Control characters and reordered text of topics and of names of files reach no terminal."""
    world = new_world(tar=False)
    for record in world.records.values():
        record.topic = "a\x1b[2J\u202eb\nc"
    world.write_data_json()
    rows = [{"index": k, "score": (k * 7 % 12) / 12} for k in range(12)]
    files = [write(tmp_path / f"\x1b[2J\u202e{k}.jsonl", rows) for k in range(2)]
    for form in ("text", "json", "markdown", "latex", "csv"):
        result = run("evaluate", *files, "--data-dir", world.root, "--format", form)
        assert result.exit_code == 0
        assert all(character.isprintable() or character == "\n" for character in result.output), form
        assert "a\\x1b[2J" in result.stdout or "a\\u001b[2J" in result.stdout or form == "latex"


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected rows, found none"),
    "no rows": (b"index,score\n", "expected rows, found none"),
    "a web page": (b"<!DOCTYPE html><html>", "found an HTML page"),
    "gzip": (b"\x1f\x8b\x08", "found a gzip archive"),
    "a list": (b'[{"index": 0}]', "expected one JSON object per line, found a list"),
    "cut": (
        b'{"index": 0, "score": 1}\n{"index": 1, "sco',
        r"a\.x: line 2: expected a JSON object, found the end of the file",
    ),
    "a number": (b'{"index": 0, "score": 1}\n7\n', r"a\.x: line 2: expected a JSON object, found 7"),
    "nested": (b'{"index": 0, "score": ' + b"[" * 200_000, r"a\.x: line 1: expected a JSON object"),
    "a key twice": (b'{"index": 0, "index": 1}', "the key 'index' more than once"),
    "other columns": (b'{"row": 0, "scores": 1}', r"found row, scores\. Did you mean 'score'\?"),
    "no answers": (b'{"index": 0}', r"expected a column score \(or label_predicted\), found index"),
    "no number": (b'{"score": 0}', r"expected a column index \(or id and image_id\), found score"),
    "a text": (b'{"index": 0, "score": "much"}', r"line 1: expected a number as score, found 'much'"),
    "a flag": (b'{"index": 0, "score": true}', r"line 1: expected a number as score, found True"),
    "a deep score": (b'{"index": 0, "score": {"a": 1}}', r"expected a number as score"),
    "half an index": (b'{"index": 0.5, "score": 1}', r"line 1: expected an integer as index, found 0\.5"),
    "no index": (b'{"index": 0, "score": 1}\n{"score": 1}', r"line 2: expected an integer as index, found None"),
    "a large index": (b"index,score\n99999999999999999999,1\n", r"line 2: expected an integer as index"),
    "NaN as index": (b'{"index": NaN, "score": 1}', "expected an integer as index, found nan"),
    "two spellings": (
        b"index,label_predicted\n0,real\n1,1\n2,fake\n",
        r"line 3: expected one spelling of labels \(0/1, .*, real/fake\) as label_predicted, found '1'",
    ),
    "a row too short": (b"index,score\n0,1\n1\n", r"line 3: expected 2 values, found 1"),
    "a column twice": (b"index,index\n0,1\n", "different names of columns"),
    "a quote": (b'index,score\n0,"1\n', r"a\.x: line \d+: expected comma-separated values"),
    "not text": (b"index,score\n0,\xff\n", "found other bytes at byte 14. Save it as UTF-8"),
    "UTF-16": (
        "index,score\n0,1\n".encode("utf-16"),
        "expected text in UTF-8, or Parquet, found other bytes at byte 0",
    ),
    "semicolons": (
        b"index;score\n0;0,5\n",
        r"expected values separated by commas or tabs, found semicolons\. Write it",
    ),
    "a column without a name": (b",score\n0,1\n", r"\), found '', score\. Give each row"),
    "a close name": (b"index,scores\n0,1\n", r"found index, scores\. Did you mean 'score'\? Give each row"),
    "NUL": (b"index,score\n\0,1\n", "a.x"),
    "not Parquet": (b"PAR1 or so", "it is not a Parquet file"),
    "escape": (b'{"index": 0, "score": "\\u001b[2J"}', r"found '\\x1b\[2J'"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_in_a_line(data: World, tmp_path: Path, what: str) -> None:
    """Whatever a file holds, one line names the file, the row and what to do."""
    (tmp_path / "a.x").write_bytes(HOSTILE[what][0])
    result = run("evaluate", tmp_path / "a.x", "--data-dir", data.root)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(HOSTILE[what][1], result.stderr)
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert "Traceback" not in result.stderr


def test_hostile_parquet_is_refused(data: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, long texts, too many rows and every truncated file: a line, and no memory for what a file claims."""
    tables = {
        "expected numbers or labels, found list": {"index": [0], "score": [[1.0]]},
        "labels of at most": {"index": [0], "label_predicted": ["x" * 100_000]},
        "at most 100 rows": {"index": [*range(101)], "score": [0.5] * 101},
        "expected a number as score, found 'a'": {"index": [0], "score": ["a"]},
    }
    change_constant(monkeypatch, "MOST_ROWS", 100, "predictions")
    for says, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        result = run("evaluate", tmp_path / "a.parquet", "--data-dir", data.root)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), says
        assert says in result.stderr
    whole = write(tmp_path / "b.parquet", predict(data)).read_bytes()
    random = np.random.default_rng(0)
    for k in range(40):
        damaged = bytearray(whole if k % 2 else whole[: 40 * k + 4])
        if k % 2:
            damaged[int(random.integers(4, len(whole)))] ^= 1 << int(random.integers(8))
        (tmp_path / "c.parquet").write_bytes(damaged)
        result = run("evaluate", tmp_path / "c.parquet", "--data-dir", data.root)
        assert result.exit_code == 0 or (result.exit_code == 1 and result.stderr.startswith("Error: ")), result.stderr


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "Missing argument"),
        (["a", "--threshold", "half"], 2, "expected a number or val:FILE"),
        (["a", "--threshold", "nan"], 1, "--threshold: expected a number or val:FILE, found nan"),
        (["a", "b", "c", "--threshold", "0", "--threshold", "1"], 1, "one for each of 3 files, found 2"),
        (["-", "-"], 2, "can be read once"),
        (["a", "--built", "x", "--data-dir", "y"], 1, "--built and --data-dir both name the true labels"),
        (["nowhere.jsonl", "--data-dir", "."], 1, "Expected some of this tree"),
        (["a", "--built", "."], 1, "a folder that `newsclippings build` wrote"),
    ],
)
def test_wrong_calls(args: Sequence[str], code: int, says: str) -> None:
    """Wrong usage and missing inputs end in a line that names the flag."""
    result = run("evaluate", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_wrong_arguments(data: World) -> None:
    """In Python, the error names the argument."""
    wrong: dict[str, dict[str, Any]] = {
        r"split='tset' is not known\. .* Did you mean 'test'": {"split": "tset"},
        "cluster='rows' is not known": {"cluster": "rows"},
        "built= and data_dir= both": {"built": "x"},
        "threshold=: expected a number or val:FILE": {"threshold": "0.5"},
    }
    for says, arguments in wrong.items():
        with pytest.raises(newsclippings.ConfigError, match=says):
            newsclippings.evaluate([], data_dir=data.root, **arguments)
    for rows in (7, [7], [["index", 1]]):
        with pytest.raises(newsclippings.BadFileError, match="predictions: row 0: expected a dict, found"):
            newsclippings.evaluate(rows, data_dir=data.root)  # type: ignore[arg-type]
    with pytest.raises(newsclippings.ConfigError, match="No predictions"):
        newsclippings.evaluate()
    with pytest.raises(newsclippings.BadFileError, match="has no scores, so threshold= has no effect"):
        newsclippings.evaluate(
            [{"index": k, "label_predicted": 1} for k in range(80)], data_dir=data.root, threshold=0.5
        )


def test_tables_in_memory(data: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data frame, a table of Arrow and a dict of columns or arrays are measured like their rows, and `~/` files."""
    rows = predict(data)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ("index", "score")}
    table = pa.table(columns)
    wanted = newsclippings.evaluate(rows, data_dir=data.root).values
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.csv", rows)
    arrays = {name: np.array(values) for name, values in columns.items()}
    sources: list[Any] = [columns, arrays, table, table.to_pandas(), "~/a.csv"]
    for source in sources:
        assert newsclippings.evaluate(source, data_dir=data.root).values == wanted
    with pytest.raises(newsclippings.BadFileError, match="row 0: expected an integer as index, found"):
        newsclippings.evaluate(columns | {"score": columns["score"][1:]}, data_dir=data.root)
    with pytest.raises(newsclippings.BadFileError, match="Pass a path, rows, a data frame or a dict of columns"):
        newsclippings.evaluate(columns["score"], data_dir=data.root)
    with pytest.raises(newsclippings.BadFileError, match="To measure only the pairs that you have, pass the folder of"):
        newsclippings.evaluate(rows[:40], data_dir=data.root)


def test_decimals_are_numbers(data: World, tmp_path: Path) -> None:
    """Decimals, which some databases write into Parquet, are read like other numbers."""
    rows = [dict(row) for row in predict(data)]
    scores = [Decimal(f"{row['score']:.3f}") for row in rows]
    columns = {"index": pa.array([Decimal(row["index"]) for row in rows]), "score": pa.array(scores)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = newsclippings.evaluate(tmp_path / "a.parquet", data_dir=data.root)
    same = newsclippings.evaluate(
        [{"index": row["index"], "score": float(score)} for row, score in zip(rows, scores, strict=True)],
        data_dir=data.root,
    )
    assert found.values == same.values


def test_names_are_escaped(data: World, tmp_path: Path) -> None:
    """Names of files are text in markdown and LaTeX, whatever characters they have."""
    names = [tmp_path / name for name in ("a|*b*<i>$x$`.jsonl", "c.jsonl")]
    for name in names:
        write(name, predict(data))
    markdown = run("evaluate", *names, "--format", "markdown", "--data-dir", data.root).stdout
    assert r"a\|\*b\*\<i>\$x\$\`.jsonl |" in markdown
    assert f"`` {names[0]}: newsclippings|" in markdown
    latex = run("evaluate", *names, "--format", "latex", "--data-dir", data.root).stdout
    assert r"a\textbar{}*b*\textless{}i\textgreater{}\$x\$`.jsonl" in latex


def test_advice_about_doubled_rows(data: World, tmp_path: Path) -> None:
    """The advice of an error says what --partial does with each problem."""
    text = write(tmp_path / "a.jsonl", predict(data)).read_text()
    (tmp_path / "a.jsonl").write_text(text + text.splitlines()[0] + "\n")
    result = run("evaluate", tmp_path / "a.jsonl", "--data-dir", data.root)
    assert result.exit_code == 1
    assert "all but the first of doubled ones" in result.stderr
