"""Write the words that a reader sees on an HTML page, in lower case, one line for each piece of text."""

import sys
from html.parser import HTMLParser
from pathlib import Path

UNSEEN = {"head", "script", "style"}


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.pieces = []
        self.unseen = 0

    def handle_starttag(self, tag, attrs):
        self.unseen += tag in UNSEEN

    def handle_endtag(self, tag):
        self.unseen -= tag in UNSEEN

    def handle_data(self, data):
        if not self.unseen and data.strip():
            self.pieces.append(data.strip().lower())


source, target = map(Path, sys.argv[1:])
for page in sorted(source.glob("*.html")):
    parser = Text()
    parser.feed(page.read_text(encoding="utf-8"))
    parser.close()
    (target / f"{page.stem}.txt").write_text("\n".join(parser.pieces) + "\n", encoding="utf-8")
