"""Python functions as pipelines: what they take and return, which code they consist of, and that they run."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import paddock
from paddock.functions.code import CodeFolder, project_code
from paddock.functions.environment import LOCK_FILE, check_environment
from paddock.functions.loading import load_function, load_pipelines
from paddock.functions.values import Element, arguments, result_files, signature_of
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.records import ApplyOutcome, JobState

TABLE = pa.table({"n": [1, 2]})


def element(name: str, *files: tuple[str, bytes]) -> Element:
    return Element(name, files[0][0], files, None)


def call(function: Any, *elements: Element) -> Any:
    return function(**arguments(signature_of(function), elements))


class TestValues:
    def test_each_kind(self) -> None:
        def takes(
            a: bytes, b: str, c: dict[str, bytes], d: pa.Table, e: np.ndarray, f: bytes | None, g: str | None
        ) -> Any:
            return a, b, c, d, e, f, g

        ((_, table),) = result_files(TABLE, "/x.csv")
        ((_, array),) = result_files(np.arange(3), "/x")
        a, b, c, d, e, f, g = call(
            takes,
            element("a", ("/1", b"one")),
            element("b", ("/2", "zwö".encode())),
            element("c", ("/3", b"x"), ("/4", b"y")),
            element("d", ("/t.parquet", table)),
            element("e", ("/t.npy", array)),
            element("f", ("/1", b"f")),
        )
        assert (a, b, c, f, g) == (b"one", "zwö", {"/3": b"x", "/4": b"y"}, b"f", None)
        assert d.equals(TABLE)
        assert e.tolist() == [0, 1, 2]

    @pytest.mark.parametrize(("path", "text"), [("/t.csv", b"n\n1\n2\n"), ("/t.jsonl", b'{"n":1}\n{"n":2}\n')])
    def test_tables_are_read_by_their_suffix(self, path: str, text: bytes) -> None:
        def rows(table: pa.Table) -> Any:
            return table

        assert call(rows, element("any", (path, text))).equals(TABLE)
        with pytest.raises(InvalidInput, match="can't be read as a table"):
            call(rows, element("any", ("/t.txt", text)))

    def test_results(self) -> None:
        assert result_files(b"x", "/a/b.txt") == [("/a/b.txt", b"x")]
        assert result_files("ä", "/") == [("/result", "ä".encode())]
        assert result_files(None, "/a") == []
        assert result_files({"x/y.txt": "1", "/z": b"2"}, "/a") == [("/x/y.txt", b"1"), ("/z", b"2")]
        assert [path for path, _ in result_files(TABLE, "/a.csv")] == ["/a.parquet"]
        assert [path for path, _ in result_files({"t": TABLE}, "/a.csv")] == ["/t"]
        with pytest.raises(InvalidInput, match="it returned int"):
            result_files(5, "/a")
        for path in ("../x", "a//b", "./a", ""):
            with pytest.raises(InvalidInput, match="returned a file for"):
                result_files({path: b""}, "/a")

    def test_signatures_that_cannot_be_called(self) -> None:
        def bare(a): ...  # type: ignore[no-untyped-def]
        def stars(*a: bytes) -> None: ...
        def number(a: int) -> None: ...

        for function, message in ((bare, "annotate parameter 'a'"), (stars, "any number"), (number, "annotate")):
            with pytest.raises(InvalidInput, match=message):
                signature_of(function)

    def test_a_path_or_out_needs_the_disk(self) -> None:
        def path(a: Path) -> None: ...
        def out(a: bytes, out: Path) -> None: ...
        def content(a: bytes, b: dict[str, bytes]) -> None: ...

        assert [signature_of(each).needs_disk for each in (path, out, content)] == [True, True, False]

    def test_one_file_is_not_made_of_many(self) -> None:
        def one(a: bytes) -> None: ...

        with pytest.raises(InvalidInput, match="is 2 files"):
            call(one, element("a", ("/1", b""), ("/2", b"")))


FILES = {
    "job.py": "import json, numpy\nimport paddock\nfrom pkg import deep\nfrom pkg.other import thing\n\n"
    "@paddock.pipeline(input=paddock.glob('texts', '/*'))\n"
    "def up_per(text: str) -> str:\n    '''Shout.\n\n    More.'''\n    import late\n    print('saw', text)\n"
    "    return late.change(text)\n\n"
    "@paddock.pipeline(input=paddock.glob('texts', '/*'), name='by-path', datum_tries=1)\n"
    "def by_path(texts: paddock_path, out: paddock_path) -> None:\n    (out / 'd').mkdir()\n"
    "    (out / 'd' / texts.name).write_bytes(texts.read_bytes()[::-1])\n",
    "pkg/__init__.py": "",
    "pkg/deep.py": "from . import sibling\nfrom .inner import *\n",
    "pkg/sibling.py": "",
    "pkg/other.py": "thing = 1\n",
    "pkg/inner/__init__.py": "from ..side import x\n",
    "pkg/side.py": "x = 1\n",
    "pkg/unused.py": "",
    "late.py": "def change(text: str) -> str: return text.upper()\n",
    "unused.py": "this is not even Python\n",
}


LOUD = """
import paddock

@paddock.pipeline(input=paddock.glob("texts", "/*"))
def loud(text: str) -> str:
    print("seen", text)
    if text in ("11", "23"):
        raise ValueError(text)
    return text
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("import json, numpy", "import json, numpy\nfrom pathlib import Path as paddock_path")
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


class TestCode:
    def test_it_is_what_the_module_imports_from_its_folder(self, project: Path) -> None:
        code = project_code("job", project / "job.py")
        names = {str(path.relative_to(project)) for path in code.files}
        assert names == set(FILES) - {"pkg/unused.py", "unused.py"}
        assert code.imported == {"numpy", "paddock"}
        inner = project_code("pkg.deep", project / "pkg" / "deep.py")
        assert {path.name for path in inner.files} == {"__init__.py", "deep.py", "sibling.py", "side.py"}

    def test_the_folder_has_a_lock_and_goes_with_its_holder(self, project: Path) -> None:
        folder = CodeFolder(project_code("job", project / "job.py"))
        path = folder.path
        lock = json.loads((path / LOCK_FILE).read_text())
        assert lock["distributions"] == {"numpy": np.__version__}
        check_environment(path)
        lock["distributions"]["numpy"] = "0.1"
        (path / LOCK_FILE).write_text(json.dumps(lock))
        with pytest.raises(Conflict, match=r"numpy 0\.1 is .* here"):
            check_environment(path)
        del folder
        assert not path.exists()

    def test_a_file_that_does_not_parse_is_named(self, project: Path) -> None:
        with pytest.raises(InvalidInput, match=r"unused\.py, line 1"):
            project_code("unused", project / "unused.py")

    def test_loading(self, project: Path) -> None:
        assert load_function("late:change")("a") == "A"
        assert load_function("job:up_per").__name__ == "up_per"
        for text in ("late", "nowhere:f", "late:nothing", "pkg.other:thing"):
            with pytest.raises((InvalidInput, NotFound)):
                load_function(text)


class TestPipelines:
    def test_parameters_must_be_inputs(self) -> None:
        two = paddock.cross(paddock.glob("a"), paddock.glob("p/b", name="c"))
        with pytest.raises(InvalidInput, match="'b' is no input; the inputs are a, c"):

            @paddock.pipeline(input=two)
            def wrong(a: bytes, b: bytes) -> None: ...

    def test_a_function_inside_another_is_refused(self) -> None:
        @paddock.pipeline(input=paddock.glob("a"))
        def inner(content: bytes) -> bytes:
            return content

        assert inner(b"x") == b"x"
        with pytest.raises(InvalidInput, match="defined in another function"):
            _ = inner.spec

    def test_it_runs_and_only_a_changed_import_runs_it_again(self, project: Path, tmp_path: Path) -> None:
        job = importlib.import_module("job")
        assert job.up_per("a") == "A"
        with paddock.connect(str(tmp_path / "home")) as pd:
            pd.repos.create("texts")
            for name in ("one", "two", "three"):
                pd.files.put(f"texts@main:/{name}", name.encode())
            assert job.up_per.apply(pd).pipeline.description == "Shout."
            job.by_path.apply(pd)
            first = pd.process(workers=1)
            assert [each.state for each in first] == [JobState.SUCCESS] * 2, [each.reason for each in first]
            assert b"".join(pd.files.read("up-per@main:/two")) == b"TWO"
            assert b"".join(pd.files.read("by-path@main:/d/two")) == b"owt"
            assert job.up_per.apply(pd).outcome is ApplyOutcome.UNCHANGED
            (project / "pkg" / "unused.py").write_text("1")
            assert job.up_per.apply(pd).outcome is ApplyOutcome.UNCHANGED
            (project / "late.py").write_text("def change(text: str) -> str: return text * 2\n")
            assert job.up_per.apply(pd).outcome is ApplyOutcome.UPDATED
            pd.process(workers=1)
            assert b"".join(pd.files.read("up-per@main:/two")) == b"twotwo"

    def test_what_every_try_prints_is_in_the_log_of_its_datum(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Datums go in frames, and one that failed by lines: each way has its own place for what is printed."""
        (tmp_path / "loud.py").write_text(LOUD)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "loud", raising=False)
        names = [f"{number:02}" for number in range(24)]
        with paddock.connect(str(tmp_path / "home")) as pd:
            pd.repos.create("texts")
            pd.commits.start("texts@main")
            for name in names:
                pd.files.put(f"texts@main:/{name}", name.encode())
            pd.commits.finish("texts@main")
            importlib.import_module("loud").loud.apply(pd)
            (job,) = pd.process(workers=1)
            assert (job.state, job.datums.failed) == (JobState.FAILURE, 2)
            logs = {
                datum.inputs[0].path[1:]: pd.datums.logs("loud@head", datum.id) for datum in pd.datums.list("loud@head")
            }
        for name in names:
            tries = 3 if name in ("11", "23") else 1
            seen = [line for line in logs[name].split(b"\n") if line.startswith(b"seen")]
            assert seen == [f"seen {name}".encode()] * tries


class TestFromTheCommandLine:
    @pytest.fixture
    def folder(self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "texts").mkdir()
        for name in ("one", "two"):
            (tmp_path / "texts" / name).write_text(name)
        monkeypatch.chdir(project)
        return tmp_path

    def test_map_calls_a_plain_function(self, folder: Path) -> None:
        with paddock.connect(str(folder / "home")) as pd:
            report = paddock.map_folder(pd, folder / "texts", folder / "out", [], function="late:change", workers=1)
            assert report.jobs[0].state is JobState.SUCCESS, report.jobs[0].reason
            assert (folder / "out" / "two").read_text() == "TWO"
            again = paddock.map_folder(pd, folder / "texts", folder / "out", [], function="late:change", workers=1)
            assert again.jobs == ()
            with pytest.raises(InvalidInput, match="brings its own code"):
                paddock.map_folder(pd, folder / "texts", folder / "out", ["cp"], function="late:change")

    def test_run_takes_a_python_file_for_a_spec(self, folder: Path, project: Path) -> None:
        with paddock.connect(str(folder / "home")) as pd:
            inputs, outputs = {"texts": folder / "texts"}, {"up-per": folder / "out"}
            report = paddock.run_specs(pd, [Path("job.py")], inputs=inputs, outputs=outputs, workers=1)
            assert [job.state for job in report.jobs] == [JobState.SUCCESS] * 2
            assert (folder / "out" / "one").read_text() == "ONE"

    def test_files_that_are_no_pipelines_are_named(self, project: Path) -> None:
        (project / "not-a-name.py").write_text("")
        (project / "raises.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
        (project / "wants.py").write_text("import not_installed\n")
        for name, message in (
            ("late.py", "defines no pipeline"),
            ("unused.py", "line 1"),
            ("not-a-name.py", "rename it"),
            ("absent.py", "does not exist"),
            ("raises.py", r"raises can't be imported: ZeroDivisionError: .*raises\.py, line 2"),
            ("wants.py", r"wants can't be imported: ModuleNotFoundError: No module named 'not_installed'"),
        ):
            with pytest.raises((InvalidInput, NotFound), match=message):
                load_pipelines(project / name)
