"""How long names may be. By itself, since processes that import next to nothing need it."""

from __future__ import annotations

NAME_LENGTH_MAX = 63
PATH_BYTES_MAX = 4096
