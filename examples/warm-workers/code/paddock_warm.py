"""Helper for warm commands in Python: `serve(work)` calls `work(datum)` for each datum. Copy it beside your script.

`datum` is the parsed line: datum["in"] (path of the first input), datum["out"] (directory for results),
datum["inputs"] and datum["env"]. An exception fails this datum only; its message becomes the reason.
"""

import json
import os
import sys
import traceback


def serve(work):
    tasks = os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "r", encoding="utf-8", errors="surrogateescape")
    answers = int(os.environ["PADDOCK_WARM_OUT"])
    say(answers, {"ready": True})
    for line in tasks:
        datum = json.loads(line)
        answer = {"id": datum["id"]}
        try:
            work(datum)
            answer["ok"] = True
        except Exception as error:
            traceback.print_exc()
            answer["error"] = f"{type(error).__name__}: {error}"
        sys.stdout.flush()
        sys.stderr.flush()
        say(answers, answer)


def say(answers, document):
    os.write(answers, json.dumps(document).encode() + b"\n")
