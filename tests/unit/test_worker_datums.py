"""What user code sees and what becomes of it, on real worker processes, with and without namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.records import DatumState
from paddock.runtime.batch_results import NOT_STARTED
from paddock.runtime.protocol import InputTask, TransformTask
from paddock.testing.workers import JOB, RanDatum, WorkerHarness, input_of, shell

PFS = 'cd "$PADDOCK_PFS"; '
CONTENT = b"some content\n"


def _namespaces_work() -> bool:
    child = os.fork()
    if child == 0:
        from paddock.runtime.sandbox import SandboxError, enter_namespaces

        try:
            enter_namespaces()
        except SandboxError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


NAMESPACES = pytest.mark.skipif(not _namespaces_work(), reason="this system forbids namespaces")


@pytest.fixture(scope="module", params=[pytest.param("namespaces", marks=NAMESPACES), "directory"])
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerHarness]:
    folder = tmp_path_factory.mktemp(request.param)
    with WorkerHarness(folder, sandbox=request.param, options=("--grace-seconds", "0.2")) as harness:
        assert harness.ready.sandbox == request.param
        assert harness.ready.reason == ""
        yield harness
        assert harness.drain() == 0
        assert harness.close() == ""
        assert list(harness.scratch.iterdir()) == []


def run(worker: WorkerHarness, script: str, *inputs: InputTask, **fields: object) -> RanDatum:
    datum = worker.datum(*inputs) if inputs else worker.file_datum(CONTENT, "/a.txt")
    return worker.run(shell(PFS + script, **fields), [datum]).datums[0]


class TestOutputs:
    def test_files_and_directories_are_kept(self, worker: WorkerHarness) -> None:
        ran = run(
            worker, "cp in/a.txt out/b; mkdir -p out/x/y out/empty; echo 1 >out/x/y/z; : >out/nothing; chmod +x out/b"
        )
        assert ran.state is DatumState.SUCCESS
        assert ran.files == {"/b": CONTENT, "/nothing": b"", "/x/y/z": b"1\n"}
        assert ran.executable == {"/b"}
        assert (ran.reason, ran.exit_code, ran.tries) == ("", 0, 1)

    def test_a_copied_input_is_not_stored_again(self, worker: WorkerHarness) -> None:
        content = os.urandom(300_000)
        batch = worker.run(shell(PFS + "cp in/big out/copy"), [worker.file_datum(content, "/big")])
        assert batch.datums[0].files == {"/copy": content}
        assert sum(pack.bytes for pack in batch.reports[0].packs) < 5000

    def test_a_large_file_is_cut_as_a_put_would_cut_it(self, worker: WorkerHarness) -> None:
        content = os.urandom(6_000_000)
        file = worker.store(content, "/big")
        batch = worker.run(shell(PFS + "cp in/big out/copy"), [worker.datum(input_of("in", "/big", file))])
        assert len(file.chunks) > 1
        assert batch.datums[0].files == {"/copy": content}
        assert sum(pack.bytes for pack in batch.reports[0].packs) < 5000

    def test_links_to_inputs_become_their_content_without_a_copy(self, worker: WorkerHarness) -> None:
        first, second = worker.store(b"1" * 1000, "/d/one"), worker.store(b"2" * 1000, "/d/sub/two", executable=True)
        ran = run(worker, 'ln -s "$in" out/all; ln -s ../in/d/one out/f', input_of("in", "/d", first, second))
        assert ran.files == {"/all/one": b"1" * 1000, "/all/sub/two": b"2" * 1000, "/f": b"1" * 1000}
        assert ran.executable == {"/all/sub/two"}

    def test_links_within_out_become_copies(self, worker: WorkerHarness) -> None:
        ran = run(
            worker,
            "mkdir out/d; echo x >out/d/f; ln -s d out/e; ln -s d/f out/g; ln out/d/f out/h; ln -s ../.env out/env",
        )
        assert set(ran.files) == {"/d/f", "/e/f", "/g", "/h", "/env"}
        assert {ran.files[path] for path in ("/d/f", "/e/f", "/g", "/h")} == {b"x\n"}

    def test_modes_do_not_hide_outputs(self, worker: WorkerHarness) -> None:
        ran = run(worker, "mkdir out/d; echo x >out/d/f; chmod 0 out/d/f out/d")
        assert ran.files == {"/d/f": b"x\n"}
        assert run(worker, "ls out").log == b""

    def test_any_utf8_name_is_kept(self, worker: WorkerHarness) -> None:
        ran = run(worker, "echo x >'out/ä *?[b]\n\\ $c'")
        assert ran.files == {"/ä *?[b]\n\\ $c": b"x\n"}

    def test_nothing_of_a_failed_datum_reaches_the_next(self, worker: WorkerHarness) -> None:
        datums = [worker.file_datum(CONTENT, f"/{n}") for n in range(2)]
        first, second = worker.run(
            shell(PFS + 'ls -A in out; : >out/x; [ "$in" = "$PADDOCK_PFS/in/1" ]'), datums
        ).datums
        assert (first.state, second.state) == (DatumState.FAILED, DatumState.SUCCESS)
        assert second.log == b"in:\n1\n\nout:\n"
        assert first.files == {}


REFUSED = [
    ("mkfifo out/x", "/out/x is a FIFO"),
    ("ln -s nowhere out/x", "/out/x is a link to nowhere, which does not exist"),
    ("ln -s /etc/passwd out/x", "/out/x is a link to /etc/passwd, which is outside"),
    ("ln -s ../.. out/x", "/out/x is a link to ../.., which is outside"),
    ("ln -s x out/x", "/out/x is a link to x that cannot be followed"),
    ("mkdir out/d; ln -s .. out/d/x", "/out/d/x is a link to .., a directory that holds it"),
    ("mkdir out/a out/b; ln -s ../b out/a/x; ln -s ../a out/b/y", "a directory that holds it"),
    ("printf x >\"out/$(printf 'a\\377')\"", r"/out/a\udcff' has a name that is not UTF-8"),
    (f"cd out; for n in $(seq 30); do mkdir {'x' * 200}; cd {'x' * 200}; done; echo >y", "can't read the output"),
    ("p=out; for n in $(seq 400); do p=$p/d; done; mkdir -p $p", "is nested more than"),
]


@pytest.mark.parametrize(("script", "reason"), REFUSED)
def test_what_cannot_be_kept_fails_the_datum_by_name(worker: WorkerHarness, script: str, reason: str) -> None:
    ran = run(worker, script)
    assert ran.state is DatumState.FAILED
    assert reason in ran.reason
    assert (ran.error_code, ran.files) == ("", {})
    assert run(worker, "ls -A out").log == b""


def test_a_socket_and_a_device_fail_the_datum(worker: WorkerHarness) -> None:
    bind = "import os, socket; os.chdir('out'); socket.socket(socket.AF_UNIX).bind('s')"
    assert "/out/s is a socket" in run(worker, f'python3 -c "{bind}"').reason
    if os.geteuid() == 0:
        assert "/out/n is a device" in run(worker, "mknod out/n c 1 3").reason
        assert "/out/b is a block device" in run(worker, "mknod out/b b 7 99").reason


class TestInputs:
    def test_writing_to_inputs_is_refused(self, worker: WorkerHarness) -> None:
        ran = run(
            worker, "echo x >>in/a.txt; echo x >in/new; echo x >new; rm -f in/a.txt; cat in/a.txt >out/a; [ ! -e new ]"
        )
        if worker.ready.sandbox == "namespaces":
            assert ran.files == {"/a": CONTENT}
            assert ran.log.count(b"Read-only file system") >= 4
        again = run(worker, "ls in; cat in/a.txt >out/a")
        assert (again.files, again.log) == ({"/a": CONTENT}, b"a.txt\n")

    def test_empty_files_and_executables(self, worker: WorkerHarness) -> None:
        file = worker.store(b"#!/bin/sh\necho ran >out/r\n", "/run", executable=True)
        empty = worker.store(b"x" * 5000, "/e")
        ran = run(
            worker,
            "in/run; wc -c <void/e; ln -s ../void/e out/e",
            input_of("in", "/run", file),
            input_of("void", "/e", empty, empty_files=True),
        )
        assert ran.files == {"/r": b"ran\n", "/e": b"x" * 5000}
        assert ran.log.split() == [b"0"]

    def test_a_group_shares_a_directory_and_the_last_one_is_named(self, worker: WorkerHarness) -> None:
        elements = [input_of("in", f"/{n}", worker.store(n.encode(), f"/{n}")) for n in "ab"]
        assert run(worker, 'ls in; cat "$in"', *elements).log == b"a\nb\nb"

    def test_the_whole_repo_as_one_datum_even_when_it_is_empty(self, worker: WorkerHarness) -> None:
        assert run(worker, 'cd "$in"; pwd; ls -A', input_of("in", "/")).log.endswith(b"/pfs/in\n")

    def test_cross_inputs_change_only_where_they_differ(self, worker: WorkerHarness) -> None:
        files = [worker.store(bytes([65 + n]), f"/d/{n}") for n in range(3)]
        datums = [
            worker.datum(input_of("l", file.path, file), input_of("r", other.path, other))
            for file in files
            for other in files
        ]
        batch = worker.run(shell(PFS + 'cat "$l" "$r" >out/x; find l r -type f | wc -l'), datums)
        assert [ran.files["/x"] for ran in batch.datums] == [
            a + b for a in (b"A", b"B", b"C") for b in (b"A", b"B", b"C")
        ]
        assert {ran.log.strip() for ran in batch.datums} == {b"2"}

    def test_a_file_where_a_directory_was(self, worker: WorkerHarness) -> None:
        datums = [worker.file_datum(b"1", path) for path in ("/x/y/z", "/x", "/x/y")]
        batch = worker.run(shell(PFS + "find in -type f; find in -type d | wc -l"), datums)
        assert [ran.log.split() for ran in batch.datums] == [[b"in/x/y/z", b"3"], [b"in/x", b"1"], [b"in/x/y", b"2"]]

    def test_a_missing_chunk_fails_its_datum_only(self, worker: WorkerHarness) -> None:
        lost, kept = worker.file_datum(b"lost for ever", "/lost"), worker.file_datum(CONTENT, "/kept")
        pack = lost.inputs[0].files[0].chunks[0][1].pack
        worker.objects.delete(f"packs/{pack[:2]}/{pack}")
        first, second = worker.run(shell(PFS + "cp -r in out"), [lost, kept]).datums
        assert (first.state, first.error_code, first.exit_code) == (DatumState.FAILED, "corrupt", NOT_STARTED)
        assert pack in first.reason
        assert second.files == {"/in/kept": CONTENT}

    def test_a_reserved_input_name_is_refused(self, worker: WorkerHarness) -> None:
        assert "may not be called 'out'" in run(worker, "true", input_of("out", "/a", worker.store(b"x", "/a"))).reason


class TestEnvironment:
    def test_variables(self, worker: WorkerHarness) -> None:
        file = worker.store(b"x", "/d/f")
        element = InputTask("in", "/d", "p/r", "main", JOB, "key", "group", empty_files=False, files=(file,))
        ran = run(worker, "env -0 >out/env; cat .env >out/file", element, env={"MINE": "a b", "in_COMMIT": "over"})
        found = dict(line.split(b"=", 1) for line in ran.files["/env"].split(b"\0") if line)
        root = found[b"PADDOCK_PFS"].decode()
        expected = {
            "PACH_JOB_ID": JOB, "PACH_OUTPUT_COMMIT_ID": JOB, "PADDOCK_JOB_ID": JOB,
            "PACH_DATUM_ID": ran.id, "PADDOCK_DATUM_ID": ran.id,
            "PPS_PIPELINE_NAME": "test", "PPS_PROJECT_NAME": "default", "PADDOCK_PIPELINE": "default/test",
            "PACH_IN_WORKER": "true", "PADDOCK_PFS": root, "in": f"{root}/in/d", "in_COMMIT": "over",
            "PACH_DATUM_in_JOIN_ON": "key", "PACH_DATUM_in_GROUP_BY": "group", "MINE": "a b",
        }  # fmt: skip
        assert {name: found[name.encode()].decode() for name in expected} == expected
        assert {name for name in found if name.startswith(b"PADDOCK_")} == {
            name.encode() for name in expected if name.startswith("PADDOCK_")
        }
        assert f"in={root}/in/d\n".encode() in ran.files["/file"]

    def test_code_is_the_working_directory(self, worker: WorkerHarness) -> None:
        code = (
            worker.store(b"echo $1 $PWD >$PADDOCK_PFS/out/o\n", "/bin/run", executable=True),
            worker.store(b"v1", "/data"),
        )
        task = TransformTask("code-1", "default", "test", ("sh", "bin/run", "x"), code=code)
        ran = worker.run(task, [worker.file_datum(CONTENT)]).datums[0]
        assert ran.files["/o"].startswith(b"x /")
        assert ran.files["/o"].endswith(b"/pfs/.code\n")
        other = TransformTask("code-2", "default", "test", ("ls", "-A"), code=(code[1],), working_dir="")
        assert worker.run(other, [worker.file_datum(CONTENT)]).datums[0].log == b"data\n"
        assert "PADDOCK_CODE" not in run(worker, "env").log.decode()

    @pytest.mark.parametrize(
        ("working_dir", "shown"), [("usr", "/usr"), ("/etc", "/etc"), ("/pfs/out", "/pfs/out"), ("/pfs", "/pfs")]
    )
    def test_working_directory(self, worker: WorkerHarness, working_dir: str, shown: str) -> None:
        task = TransformTask(f"cwd-{working_dir}", "default", "test", ("/bin/pwd",), working_dir=working_dir)
        assert worker.run(task, [worker.file_datum(CONTENT)]).datums[0].log.decode().strip().endswith(shown)

    def test_a_missing_working_directory_is_named(self, worker: WorkerHarness) -> None:
        ran = run(worker, "true", cwd="/no/such/place")
        assert "the working directory /no/such/place cannot be entered" in ran.reason

    def test_placeholders(self, worker: WorkerHarness) -> None:
        words = ("cp", "{in}", "{out}/copy of {x}")
        task = TransformTask("placeholders", "default", "test", words, placeholders=True)
        datum = worker.file_datum(CONTENT, "/{out} ü")
        assert worker.run(task, [datum]).datums[0].files == {"/copy of {x}": CONTENT}

    def test_standard_input(self, worker: WorkerHarness) -> None:
        task = TransformTask("stdin", "default", "test", ("sh",), stdin=('echo "$0"', "echo two"))
        batch = worker.run(task, [worker.file_datum(CONTENT, f"/{n}") for n in range(3)])
        assert [ran.log for ran in batch.datums] == [b"sh\ntwo\n"] * 3
        assert run(worker, "cat | wc -c").log.strip() == b"0"
        unread = TransformTask("unread", "default", "test", ("true",), stdin=("x" * 1_000_000,))
        assert worker.run(unread, [worker.file_datum(CONTENT)]).datums[0].state is DatumState.SUCCESS


class TestTries:
    def test_a_failure_has_its_code_and_its_last_words(self, worker: WorkerHarness) -> None:
        ran = run(worker, "echo first; echo bad luck >&2; exit 3")
        assert (ran.state, ran.exit_code, ran.error_code) == (DatumState.FAILED, 3, "")
        assert ran.reason == "the command ended with exit code 3: bad luck"
        assert ran.log.startswith(b"first\nbad luck\n")
        assert "was killed by SIGSEGV and printed nothing" in run(worker, "kill -SEGV $$").reason

    def test_tries_until_one_succeeds(self, worker: WorkerHarness, tmp_path: Path) -> None:
        marks = tmp_path / "marks"
        ran = run(worker, f"ls -A out; echo x >out/x; echo t >>{marks}; [ $(wc -l <{marks}) = 3 ]", datum_tries=5)
        assert (ran.state, ran.tries, ran.files) == (DatumState.SUCCESS, 3, {"/x": b"x\n"})
        assert b"paddock: try 2 of 5\npaddock: the command ended" in ran.log
        assert run(worker, "false", datum_tries=2).tries == 2

    def test_accepted_codes(self, worker: WorkerHarness) -> None:
        ran = run(worker, "echo >out/x; exit 7", accept_return_code=(7,))
        assert (ran.state, ran.exit_code, list(ran.files)) == (DatumState.SUCCESS, 7, ["/x"])

    def test_recovered_datums_have_no_outputs(self, worker: WorkerHarness) -> None:
        ran = run(worker, "echo >out/x; exit 1", err_cmd=("sh",), err_stdin=("echo mending", "exit 0"), datum_tries=2)
        assert (ran.state, ran.tries, ran.files) == (DatumState.RECOVERED, 2, {})
        assert ran.log.count(b"mending\n") == 2
        failed = run(worker, "exit 1", err_cmd=("false",))
        assert failed.state is DatumState.FAILED
        assert b"paddock: err_cmd ended with exit code 1" in failed.log
        assert "err_cmd: command 'nope'" in run(worker, "exit 1", err_cmd=("nope",)).reason

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("no-such-command",), "command 'no-such-command' is not found in PATH"),
            (("/no/such/command",), "cannot be run: No such file or directory"),
            (("/etc/passwd",), "is not executable"),
            (("/etc",), "is a directory"),
            ((), "the command is empty"),
            (("sh", "\0"), "cannot be passed to the system"),
        ],
    )
    def test_a_command_that_cannot_start_is_not_tried_again(
        self, worker: WorkerHarness, words: tuple[str, ...], reason: str
    ) -> None:
        task = TransformTask(f"bad-{words}", "default", "test", words, datum_tries=3)
        ran = worker.run(task, [worker.file_datum(CONTENT)]).datums[0]
        assert (ran.state, ran.tries, ran.exit_code) == (DatumState.FAILED, 1, NOT_STARTED)
        assert reason in ran.reason

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"#!/no/such\n", "its interpreter '/no/such' does not"), (b"echo\n", "is not a program of this machine")],
    )
    def test_a_script_that_the_system_cannot_run(self, worker: WorkerHarness, content: bytes, reason: str) -> None:
        code = (worker.store(content, "/run", executable=True),)
        task = TransformTask(f"script-{content!r}", "default", "test", ("./run",), code=code)
        assert reason in worker.run(task, [worker.file_datum(CONTENT)]).datums[0].reason

    def test_path_of_the_spec_is_used(self, worker: WorkerHarness) -> None:
        code = (worker.store(b"#!/bin/sh\necho mine\n", "/tools/tool", executable=True),)
        task = TransformTask("path", "default", "test", ("tool",), code=code, env={"PATH": "tools:/bin"})
        assert worker.run(task, [worker.file_datum(CONTENT)]).datums[0].log == b"mine\n"


class TestLogs:
    def test_each_datum_has_its_own(self, worker: WorkerHarness) -> None:
        datums = [worker.file_datum(b"%d" % n, f"/{n}") for n in range(20)]
        batch = worker.run(shell('cat "$in"; echo; head -c 200000 /dev/zero'), datums)
        assert [ran.log for ran in batch.datums] == [b"%d\n" % n + bytes(200_000) for n in range(20)]

    def test_a_flood_is_cut_in_the_middle(self, worker: WorkerHarness) -> None:
        ran = run(worker, "echo start; head -c 60000000 /dev/zero | tr '\\0' x; echo; echo end")
        assert ran.state is DatumState.SUCCESS
        assert ran.log.startswith(b"start\nxxx")
        assert ran.log.endswith(b"xxx\nend\n")
        assert b"bytes of output left out here" in ran.log
        assert len(ran.log) < 17 << 20


def test_what_lay_beside_the_inputs_of_the_last_datum_is_gone(worker: WorkerHarness) -> None:
    show = shell("cd $PADDOCK_PFS; find . -path './in*' -o -path './empty*' | sort; find in -type f -exec cat {} +")
    one, longer, other = worker.store(b"1", "/1"), worker.store(b"longer", "/2"), worker.store(b"x", "/d/x")
    program = worker.store(b"p", "/3", executable=True)
    datums = [
        worker.datum(input_of("in", "/1", one), input_of("empty", "/")),
        worker.datum(input_of("in", "/2", longer)),
        worker.datum(input_of("in", "/1", one)),
        worker.datum(input_of("in", "/3", program)),
        worker.datum(input_of("in", "/d", other)),
        worker.datum(input_of("in", "/1", one)),
    ]
    assert [ran.log.decode().split() for ran in worker.run(show, datums).datums] == [
        ["./empty", "./in", "./in/1", "1"],
        ["./in", "./in/2", "longer"],
        ["./in", "./in/1", "1"],
        ["./in", "./in/3", "p"],
        ["./in", "./in/d", "./in/d/x", "x"],
        ["./in", "./in/1", "1"],
    ]
