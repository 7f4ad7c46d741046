from pathlib import Path

from paddock_warm import serve


def work(datum):
    source = Path(datum["in"])
    total = sum(int(line) for line in source.read_text().split())
    Path(datum["out"], source.name).write_text(f"{total}\n")


serve(work)
