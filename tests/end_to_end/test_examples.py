"""Every example gives exactly its expected output, from nothing and again, through the `paddock` command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WARM = {"python": "python3", "shell": "sh", "node": "node", "r": "Rscript"}


@dataclass(frozen=True)
class Example:
    folder: str
    specs: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    datums: dict[str, int]

    def __str__(self) -> str:
        return f"{self.folder}-{Path(self.specs[0]).stem}"


CASES = (
    Example("word-count", ("pipelines.yaml",), ("pages",), ("reduce",), {"text": 3, "map": 3, "reduce": 27}),
    Example("joins", ("inner.yaml",), ("branches", "loans"), ("loans-by-town",), {"loans-by-town": 3}),
    Example("joins", ("outer.json",), ("loans", "returns"), ("returns-report",), {"returns-report": 4}),
    Example(
        "groups",
        ("pipelines.yaml",),
        ("counts", "weather"),
        ("by-species", "diary"),
        {"by-species": 2, "diary": 3},
    ),
    Example("shuffle", ("shuffle.yaml",), ("tunes", "tunings"), ("shuffle",), {"shuffle": 6}),
)


def paddock(*arguments: str, cwd: Path) -> Any:
    """The JSON document that a command prints; the command must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    environment |= {
        "PADDOCK_HOME": str(cwd / "home"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    finished = subprocess.run(
        [str(Path(sys.executable).with_name("paddock")), *arguments, "--json"],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def files_below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def run_arguments(example: Example) -> list[str]:
    arguments = ["run", *example.specs]
    for repo in example.inputs:
        arguments += ["--input", f"{repo}={repo}"]
    for pipeline in example.outputs:
        arguments += ["--output", f"{pipeline}=out/{pipeline}"]
    return arguments


def datums_of(summary: Any, count: str) -> dict[str, int]:
    return {job["pipeline"].rpartition("/")[2]: job["datums"][count] for job in summary["jobs"]}


@pytest.mark.parametrize("example", CASES, ids=str)
def test_output_is_exactly_as_expected(example: Example, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(EXAMPLES / example.folder, work, ignore=shutil.ignore_patterns("expected", ".paddock"))

    summary = paddock(*run_arguments(example), cwd=work)

    assert datums_of(summary, "run") == example.datums
    for pipeline in example.outputs:
        expected = files_below(EXAMPLES / example.folder / "expected" / pipeline)
        assert files_below(work / "out" / pipeline) == expected


@pytest.mark.parametrize("language", WARM)
def test_warm_workers_in_each_language(language: str, tmp_path: Path) -> None:
    if shutil.which(WARM[language]) is None:
        pytest.skip(f"{WARM[language]} is not installed")
    name = f"totals-{language}"
    test_output_is_exactly_as_expected(
        Example("warm-workers", (f"{language}.yaml",), ("numbers",), (name,), {name: 5}), tmp_path
    )


def test_word_count_after_a_change_adds_up_only_the_changed_words(tmp_path: Path) -> None:
    example = CASES[0]
    work = tmp_path / "work"
    shutil.copytree(EXAMPLES / example.folder, work, ignore=shutil.ignore_patterns("expected", ".paddock"))
    paddock(*run_arguments(example), cwd=work)
    page = work / "pages" / "night.html"
    page.write_text(page.read_text().replace("The tide does not.", "The harbour sleeps."))

    summary = paddock(*run_arguments(example), cwd=work)

    # Changed counts: harbour and sleeps went up, tide went down; `does` and `not` are no words any more.
    assert datums_of(summary, "run") == {"text": 1, "map": 1, "reduce": 3}
    counts = {name: int(text) for name, text in files_below(work / "out" / "reduce").items()}
    assert (counts["harbour"], counts["sleeps"], counts["tide"]) == (2, 2, 2)
    assert "does" not in counts
    assert "not" not in counts


def test_opencv_gives_what_the_scripts_give_by_themselves(tmp_path: Path) -> None:
    example = EXAMPLES / "opencv"
    work = tmp_path / "work"
    shutil.copytree(example, work, ignore=shutil.ignore_patterns(".paddock", "images"))
    names = ("chelsea.png", "page.png", "rocket.jpg")
    python = sys.executable
    subprocess.run([python, "pictures.py", "images", *names], cwd=work, check=True)
    plain = work / "plain"
    (plain / "edges").mkdir(parents=True)
    (plain / "montage").mkdir()
    subprocess.run([python, "code/edges/edges.py", "images", "plain/edges"], cwd=work, check=True)
    montage = [python, "code/montage/montage.py", "images", "plain/edges", "plain/montage/montage.png"]
    subprocess.run(montage, cwd=work, check=True)
    case = Example("opencv", ("edges.yaml", "montage.yaml"), ("images",), ("edges", "montage"), {})

    summary = paddock(*run_arguments(case), cwd=work)

    assert datums_of(summary, "run") == {"edges": len(names), "montage": 1}
    assert set(files_below(work / "out" / "edges")) == {"chelsea.png", "page.png", "rocket.png"}
    assert files_below(work / "out") == files_below(plain)


def copied(name: str, tmp_path: Path) -> Path:
    work = tmp_path / "work"
    shutil.copytree(EXAMPLES / name, work, ignore=shutil.ignore_patterns(".paddock"))
    return work


@pytest.mark.slow
def test_a_sweep_finds_the_best_and_computes_new_parameters_only(tmp_path: Path) -> None:
    work = copied("sweep", tmp_path)
    for model in ("forest", "logistic", "perceptron"):
        (work / "models" / f"{model}.json").unlink()
    (work / "scales" / "values.jsonl").write_text('{"scale": 0.3}\n{"scale": 3}\n')
    subprocess.run([sys.executable, "data.py", "digits"], cwd=work, check=True)
    case = Example("sweep", ("sweep.py",), ("digits", "models", "scales"), ("best",), {})

    summary = paddock(*run_arguments(case), cwd=work)

    assert datums_of(summary, "run") == {"score": 4, "best": 1}
    found = json.loads((work / "out" / "best" / "best.json").read_text())
    assert (found["estimator"], found["C"]) == ("SVC", 3.0)
    assert found["accuracy"] > 0.97
    with (work / "scales" / "values.jsonl").open("a") as scales:
        scales.write('{"scale": 0.1}\n')

    summary = paddock(*run_arguments(case), cwd=work)

    assert datums_of(summary, "run") == {"score": 2, "best": 1}
    rows = [json.loads(line) for line in (work / "out" / "best" / "all.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert rows[0] == found
    assert 0.9 < rows[-1]["accuracy"] < found["accuracy"]


@pytest.mark.slow
def test_a_warm_model_gives_what_a_cold_one_does(tmp_path: Path) -> None:
    work = copied("features", tmp_path)
    subprocess.run([sys.executable, "pictures.py", "pictures", "2"], cwd=work, check=True)
    warm = Example("features", ("features.py",), ("pictures",), ("words",), {})
    cold = Example("features", ("cold.yaml",), ("pictures",), ("words-cold",), {})

    # One worker loads the model once for all, and then for each picture.
    assert datums_of(paddock(*run_arguments(warm), "-j", "1", cwd=work), "run") == {"words": 2}
    assert datums_of(paddock(*run_arguments(cold), "-j", "1", cwd=work), "run") == {"words-cold": 2}

    found = files_below(work / "out" / "words")
    assert found == files_below(work / "out" / "words-cold")
    assert len(found) == 2
    # A tile of 96 x 96 pixels has 11 x 11 blocks.
    assert [sum(map(int, content.split(b","))) for content in found.values()] == [121] * 2


def test_appended_records_alone_are_computed(tmp_path: Path) -> None:
    work = copied("records", tmp_path)
    (work / "sales").mkdir()

    def sales(first: int, last: int) -> str:
        words = [sys.executable, "sales.py", str(first), str(last)]
        return subprocess.run(words, cwd=work, check=True, capture_output=True, text=True).stdout

    (work / "sales" / "sales.csv").write_text(sales(1, 2500))
    case = Example("records", ("price.py",), ("sales",), ("price", "prices"), {})

    summary = paddock(*run_arguments(case), cwd=work)

    assert datums_of(summary, "run") == {"price": 2500, "prices": 3}
    with (work / "sales" / "sales.csv").open("a") as file:
        file.write(sales(2501, 2600))

    summary = paddock(*run_arguments(case), cwd=work)

    assert datums_of(summary, "run") == {"price": 100, "prices": 1}
    assert datums_of(summary, "total") == {"price": 2600, "prices": 3}
    single, thousands = (files_below(work / "out" / name) for name in ("price", "prices"))
    rows = b"".join(content for _, content in sorted(single.items()))
    assert rows == b"".join(content for _, content in sorted(thousands.items()))
    assert rows.splitlines()[:2] == [b"1,0.74", b"2,2.23"]
    assert rows.count(b"\n") == 2600
