"""What every command works with: the services, how names are completed, and where output goes."""

from __future__ import annotations

import re
from dataclasses import field
from typing import cast

import typer

from paddock.cli import output
from paddock.client.connection import connect
from paddock.model.dataclass import dataclass
from paddock.model.records import DEFAULT_PROJECT
from paddock.model.services import Paddock
from paddock.settings import Settings

INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Session:
    """The global options of one invocation."""

    home: str | None = None
    url: str | None = None
    project: str = DEFAULT_PROJECT
    settings: Settings = field(default_factory=Settings)
    """What the environment says, where no option does."""
    interrupted: str = INTERRUPTED
    """The line that Ctrl-C ends with: what state is left. A command sets it before it starts to change something."""
    _paddock: Paddock | None = field(default=None, repr=False)

    @property
    def paddock(self) -> Paddock:
        if self._paddock is None:
            self._paddock = connect(self.home, self.url)
        return self._paddock

    @property
    def remote(self) -> bool:
        """Whether a server is named."""
        return self.url is not None or (self.home is None and self.settings.url is not None)

    @property
    def chosen_project(self) -> str | None:
        """The project, where one was named that is not the default one."""
        return self.project if self.project != DEFAULT_PROJECT else None

    def name(self, text: str) -> str:
        """An address or a name with the chosen project, unless it names one itself."""
        head = text.partition(":")[0].partition("@")[0]
        return text if self.chosen_project is None or "/" in head or not head else f"{self.project}/{text}"

    def close(self) -> None:
        if self._paddock is not None:
            self._paddock.close()


def note_password(url: str) -> None:
    """Say where a password in an argument of this command can be read."""
    if re.search(r"://[^/?#@]*:.+@|[?&]\w*password=", url):
        output.note(
            "note: other users of this machine see the password in the list of processes; leave it out of the URL, and give it in "
            "PGPASSWORD or ~/.pgpass"
        )


def session_of(context: typer.Context) -> Session:
    return cast(Session, context.obj)
