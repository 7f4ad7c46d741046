"""Warm commands: started once, fed with lines; on real worker processes, with and without namespaces."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddock.model.records import DatumState
from paddock.runtime import sandbox
from paddock.runtime.protocol import Cancel, Heartbeat, TransformTask
from paddock.testing.workers import WorkerHarness, input_of, processes_with, shell

SERVE = """
import json, os, sys, time
tasks = os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "rb")
say = lambda **fields: os.write(int(os.environ["PADDOCK_WARM_OUT"]), json.dumps(fields).encode() + b"\\n")
for line in tasks:
    datum = json.loads(line)
    content = open(datum["in"]).read()
    def out(text): open(datum["out"] + "/result", "w").write(str(text))
"""
OK = "    say(id=datum['id'], ok=True)\n"


def _namespaces_work() -> bool:
    child = os.fork()
    if child == 0:
        try:
            sandbox.enter_namespaces()
        except sandbox.SandboxError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


NAMESPACES = pytest.mark.skipif(not _namespaces_work(), reason="this system forbids namespaces")


@pytest.fixture(scope="module", params=[pytest.param("namespaces", marks=NAMESPACES), "directory"])
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerHarness]:
    folder = tmp_path_factory.mktemp(request.param)
    options = ("--grace-seconds", "0.2", "--heartbeat-seconds", "0.1", "--silence-seconds", "0.3")
    with WorkerHarness(folder, sandbox=request.param, options=options) as harness:
        yield harness
        assert harness.drain() == 0
        assert harness.close() == ""


def warm(script: str, *, end: str = "", **fields: Any) -> TransformTask:
    """A warm transform: `script` runs for each datum (indented by four), `end` after the last."""
    text = f"{SERVE}{script}\n{end}"
    identity = hashlib.sha256(repr((text, sorted(fields.items()))).encode()).hexdigest()[:16]
    cmd = (sys.executable, "-S", "-E", "-c", text)
    return TransformTask(id=identity, project="default", pipeline="test", cmd=cmd, warm=True, **fields)


def contents(worker: WorkerHarness, transform: TransformTask, *texts: str) -> list[str]:
    datums = [worker.file_datum(text.encode(), f"/{number}") for number, text in enumerate(texts)]
    return [ran.files["/result"].decode() for ran in worker.run(transform, datums).datums]


def test_one_process_serves_all_datums_of_all_batches(worker: WorkerHarness) -> None:
    transform = warm("    out(f'{content} {os.getpid()} {os.environ.get(\"A\")}')\n" + OK, env={"A": "b"})
    first, second = contents(worker, transform, "x", "y")
    (third,) = contents(worker, transform, "z")
    assert first.split()[0::2] == ["x", "b"]
    assert {first.split()[1], second.split()[1], third.split()[1]} == {first.split()[1]}
    assert third[0] == "z"


def test_the_line_says_all_of_a_datum(worker: WorkerHarness) -> None:
    transform = warm("    out(line.decode())\n" + OK)
    files = [worker.store(b"1", '/d/ä"1'), worker.store(b"2", "/d/2")]
    datum = worker.datum(input_of("one", '/d/ä"1', files[0]), input_of("two", "/d", *files))
    ran = worker.run(transform, [datum]).datums[0]
    document = json.loads(ran.files["/result"])
    pfs = document["out"].removesuffix("/out")
    assert document["id"] == datum.id
    assert document["in"] == f'{pfs}/one/d/ä"1'
    assert document["inputs"][1] == {
        "name": "two",
        "path": f"{pfs}/two/d",
        "files": [f'{pfs}/two/d/ä"1', f"{pfs}/two/d/2"],
    }
    assert document["env"]["two"] == f"{pfs}/two/d"
    assert document["env"]["PADDOCK_DATUM_ID"] == datum.id


def test_what_is_printed_is_the_log_of_its_datum(worker: WorkerHarness) -> None:
    transform = warm("    print(content, flush=True); os.write(2, content.encode() * 50000)\n" + OK)
    datums = [worker.file_datum(text, f"/{number}") for number, text in enumerate((b"one", b"two"))]
    first, second = worker.run(transform, datums).datums
    assert first.log == b"one\n" + b"one" * 50000
    assert second.log == b"two\n" + b"two" * 50000


def test_an_error_fails_its_datum_only_and_the_process_goes_on(worker: WorkerHarness) -> None:
    script = (
        "    if content == 'bad': say(id=datum['id'], error='no ' + content); continue\n    out(os.getpid())\n" + OK
    )
    transform = warm(script, datum_tries=2)
    datums = [worker.file_datum(text, f"/{number}") for number, text in enumerate((b"a", b"bad", b"c"))]
    first, bad, last = worker.run(transform, datums).datums
    assert (bad.state, bad.reason, bad.tries, bad.files) == (DatumState.FAILED, "no bad", 2, {})
    assert b"paddock: try 2 of 2" in bad.log
    assert first.files == last.files


def test_a_crash_costs_one_try_of_one_datum(worker: WorkerHarness, tmp_path: Path) -> None:
    marker = tmp_path / "crashed"
    script = f"    if content == 'b' and not os.path.exists({str(marker)!r}):\n"
    script += f"        open({str(marker)!r}, 'w'); print('dying', flush=True); os.kill(os.getpid(), 9)\n    out(os.getpid())\n"
    transform = warm(script + OK, datum_tries=2)
    datums = [worker.file_datum(text, f"/{number}") for number, text in enumerate((b"a", b"b", b"c"))]
    first, crashed, last = worker.run(transform, datums).datums
    assert [ran.tries for ran in (first, crashed, last)] == [1, 2, 1]
    assert first.files != crashed.files == last.files
    assert crashed.state is DatumState.SUCCESS
    assert b"SIGKILL" in crashed.log


def test_a_process_that_ends_before_it_answers_fails_the_datum(worker: WorkerHarness) -> None:
    ran = worker.run(warm("    print('gone', flush=True); sys.exit(0)"), [worker.file_datum(b"a")]).datums[0]
    assert ran.reason == "the warm command ended with exit code 0 before it answered: gone"


def test_a_process_that_ended_between_datums_is_started_anew(worker: WorkerHarness) -> None:
    marker = f"ends-after-each-{os.getpid()}"
    transform = warm("    out(os.getpid())\n" + OK + f"    sys.exit(1)  # {marker}\n")
    first = contents(worker, transform, "a")
    deadline = time.monotonic() + 60
    while processes_with(marker):
        assert time.monotonic() < deadline
    second = contents(worker, transform, "b")
    assert first != second


def test_a_program_that_does_not_speak_the_protocol_is_named(worker: WorkerHarness) -> None:
    reasons = {}
    for name, answer in {
        "other": "say(id='x', ok=True)",
        "text": "os.write(int(os.environ['PADDOCK_WARM_OUT']), b'hello\\n')",
        "neither": "say(id=datum['id'])",
        "closed": "os.close(int(os.environ['PADDOCK_WARM_OUT'])); time.sleep(60)",
    }.items():
        reasons[name] = worker.run(warm(f"    {answer}"), [worker.file_datum(b"a")]).datums[0].reason
    assert "answered for datum 'x' instead of" in reasons["other"]
    assert "'hello', which is not a JSON object" in reasons["text"]
    assert "neither `ok: true` nor a text `error`" in reasons["neither"]
    assert reasons["closed"].startswith("the warm command closed the descriptor for its answers")


def test_a_datum_has_its_deadline_and_the_next_a_fresh_process(worker: WorkerHarness) -> None:
    transform = warm("    if content == 'slow': time.sleep(60)\n    out(content)\n" + OK, datum_timeout_seconds=2.0)
    slow, quick = worker.run(transform, [worker.file_datum(b"slow", "/1"), worker.file_datum(b"quick", "/2")]).datums
    assert slow.reason == "the command was stopped after 2 s (datum_timeout)"
    assert quick.files == {"/result": b"quick"}


def test_silence_after_a_heartbeat_is_a_hang(worker: WorkerHarness) -> None:
    ran = worker.run(warm("    say(heartbeat=True); time.sleep(60)"), [worker.file_datum(b"a")]).datums[0]
    assert ran.reason == "the warm command was stopped: it sent heartbeats, and then nothing for 0.3 s"


def test_limits_recycle_the_process(worker: WorkerHarness) -> None:
    by_count = contents(worker, warm("    out(os.getpid())\n" + OK, warm_datums_max=2), *"abcde")
    assert [by_count.count(pid) for pid in dict.fromkeys(by_count)] == [2, 2, 1]
    greedy = "    globals().setdefault('held', bytearray(64 << 20)); out(os.getpid()); time.sleep(0.25)\n" + OK
    by_memory = contents(worker, warm(greedy, warm_memory_bytes=32 << 20), *"ab")
    assert by_memory[0] != by_memory[1]


def test_end_of_file_ends_the_process_in_good_order(worker: WorkerHarness, tmp_path: Path) -> None:
    marker = tmp_path / "ended"
    contents(worker, warm("    out(1)\n" + OK, end=f"open({str(marker)!r}, 'w').write('well')\n"), "a")
    cold = worker.run(shell("true"), [worker.file_datum(b"a")]).datums[0]
    assert cold.state is DatumState.SUCCESS
    assert marker.read_text() == "well"


def test_err_cmd_recovers(worker: WorkerHarness) -> None:
    transform = warm("    say(id=datum['id'], error='never')", err_cmd=("/bin/sh", "-c", 'cat "$in"'), datum_tries=1)
    ran = worker.run(transform, [worker.file_datum(b"content")]).datums[0]
    assert ran.state is DatumState.RECOVERED
    assert b"content" in ran.log


def test_a_line_longer_than_a_pipe_arrives(worker: WorkerHarness) -> None:
    folders = "/".join(f"{level}{'x' * 240}" for level in range(8))
    names = {f"/dir/{folders}/{number}": b"1" for number in range(800)}
    datum = worker.datum(input_of("in", "/dir", *worker.store_many(names)))
    script = SERVE.replace('    content = open(datum["in"]).read()\n', "")
    text = script + "    out(len(datum['inputs'][0]['files']))\n" + OK
    cmd = (sys.executable, "-S", "-E", "-c", text)
    transform = TransformTask(id="long", project="default", pipeline="test", cmd=cmd, warm=True)
    assert worker.run(transform, [datum]).datums[0].files == {"/result": b"800"}


def test_a_cancelled_batch_stops_the_process(worker: WorkerHarness) -> None:
    lease = worker.start(warm("    time.sleep(60)"), [worker.file_datum(b"a")])
    while not (isinstance(message := worker.receive(), Heartbeat) and message.running):
        pass
    worker.send(Cancel(lease))
    batch = worker.finish(lease)
    assert batch.reports[-1].cancelled
    assert batch.datums == []


def test_a_command_that_is_not_there_is_named(worker: WorkerHarness) -> None:
    transform = TransformTask(id="none", project="default", pipeline="test", cmd=("no-such-command",), warm=True)
    ran = worker.run(transform, [worker.file_datum(b"a")]).datums[0]
    assert "'no-such-command' is not found in PATH" in ran.reason


FRAMES = """
import json, os, sys, time
tasks = os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "rb")
answers = int(os.environ["PADDOCK_WARM_OUT"])
def say(*contents, **fields): os.write(answers, json.dumps(fields).encode() + b"\\n" + b"".join(contents))
def frame(answer):
    content, documents, results = tasks.read(document["bytes"]), [], []
    for id, inputs in document["frame"]:
        size = inputs[0][2][0][1]
        data, content = content[:size], content[size:]
        made, *made_bytes = answer(data)
        documents.append({"id": id, **made})
        results += made_bytes
    say(*results, frame=documents, bytes=sum(map(len, results)))
def line(text):
    open(document["out"] + "/result", "w").write(text)
    say(id=document["id"], ok=True)
def good(data): return {"ok": True, "files": [["/result", len(data)]], "log": 1}, data, b"L"
say(ready=True, frames=1)
for row in tasks:
    document = json.loads(row)
"""


def frames(script: str, **fields: Any) -> TransformTask:
    identity = hashlib.sha256(repr((script, sorted(fields.items()))).encode()).hexdigest()[:16]
    cmd = (sys.executable, "-S", "-E", "-c", FRAMES + script)
    return TransformTask(id=identity, project="default", pipeline="test", cmd=cmd, warm=True, **fields)


def many(worker: WorkerHarness, count: int) -> list[Any]:
    contents = {f"/{number}": f"{number}".encode() for number in range(count)}
    files = worker.store_many(contents)
    return [worker.datum(input_of("in", file.path, file)) for file in files]


def test_frames_carry_contents_results_and_logs(worker: WorkerHarness) -> None:
    ran = worker.run(frames("    frame(good) if 'frame' in document else line('line')\n"), many(worker, 500)).datums
    assert ran[0].files == {"/result": b"line"}
    assert [each.files["/result"] for each in ran[1:]] == [f"{number}".encode() for number in range(1, 500)]
    assert {each.log for each in ran[1:]} == {b"L"}
    assert {each.state for each in ran} == {DatumState.SUCCESS}


def test_a_failure_in_a_frame_is_tried_again_by_a_line(worker: WorkerHarness) -> None:
    script = "    frame(lambda data: ({'error': 'not here'},) if data == b'7' else good(data))"
    script += " if 'frame' in document else line('by line')\n"
    ran = worker.run(frames(script, datum_tries=2), many(worker, 20)).datums
    assert (ran[7].tries, ran[7].files) == (2, {"/result": b"by line"})
    assert b"paddock: not here" in ran[7].log
    assert [each.tries for each in ran].count(1) == 19
    (failed,) = [each for each in worker.run(frames(script, datum_tries=1), many(worker, 20)).datums if each.reason]
    assert (failed.state, failed.reason, failed.tries) == (DatumState.FAILED, "not here", 1)


def test_a_crash_in_a_frame_costs_no_other_datum_a_try(worker: WorkerHarness) -> None:
    script = "    frame(lambda data: os._exit(9) if data == b'7' else good(data))"
    script += " if 'frame' in document else os._exit(8) if document['in'].endswith('/7') else line('by line')\n"
    ran = worker.run(frames(script, datum_tries=2), many(worker, 20)).datums
    assert ran[7].reason == "the warm command ended with exit code 8 before it answered and printed nothing"
    assert [number for number, each in enumerate(ran) if each.state is DatumState.FAILED] == [7]
    assert {each.tries for number, each in enumerate(ran) if number != 7} == {1}


@pytest.mark.parametrize(
    "answer",
    [
        "say(frame=[], bytes=0)",
        "say(frame=[{'id': 'x', 'ok': True} for _ in document['frame']], bytes=0)",
        "frame(lambda data: ({'ok': True, 'files': [['/a', 99]]}, b'short'))",
        "frame(lambda data: ({},))",
        "frame(lambda data: (dict(ok=True, files=5),))",
        "say(frame='x', bytes='y')",
    ],
)
def test_a_frame_that_makes_no_sense_is_done_by_lines(worker: WorkerHarness, answer: str) -> None:
    script = f"    if 'frame' in document: {answer}; continue\n    line('by line')\n"
    ran = worker.run(frames(script), many(worker, 6)).datums
    assert [each.files for each in ran] == [{"/result": b"by line"}] * 6


def test_paths_that_no_file_system_has_are_refused(worker: WorkerHarness) -> None:
    reasons = []
    for names in (["../up"], ["/a/../b"], ["x"], ["/"], ["/a", "/a"], ["/a", "/a/b"]):
        files = [[name, 0] for name in names]
        script = f"    frame(lambda data: ({{'ok': True, 'files': {files!r}}},)) if 'frame' in document else line('')\n"
        reasons.append(worker.run(frames(script, datum_tries=1), many(worker, 2)).datums[1].reason)
    assert ["can't be the path of an output" in reason for reason in reasons] == [True] * 4 + [False] * 2
    assert reasons[4:] == ["it gives one output path twice", "/pfs/out/a is a file and a directory (of /a/b) at once"]


def test_a_batch_that_arrives_while_a_long_report_is_sent_is_run(worker: WorkerHarness) -> None:
    transform = frames("    frame(good) if 'frame' in document else line('line')\n")
    datums = many(worker, 3000)
    first = worker.start(transform, datums)
    worker.await_claim()
    second = worker.start(transform, datums[:1])
    assert len(worker.finish(first).datums) == 3000
    assert len(worker.finish(second).datums) == 1
