"""`python -m paddock`: the same as the `paddock` command."""

from __future__ import annotations

import sys

from paddock.cli.start import main

sys.exit(main())
