"""What datums took when they were last computed, so that the scheduler can begin with the longest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.model.ids import Digest
from paddock.runtime.batch_results import read_batch_result
from paddock.runtime.job_tables import DATUMS, NO_BATCH
from paddock.versions.home import Home

BATCHES_READ_MAX = 64
"""Most batch results that are read for one job; they hold up to 2,000 datums each, and a sample will do."""


def known_seconds(home: Home, base: Digest, names: pa.Array) -> npt.NDArray[np.float64]:
    """Seconds of each datum of these sort names in the datums table `base`; NaN where that is not known.

    Cost: the segments of `base` in which the names lie, and at most `BATCHES_READ_MAX` batch results.
    """
    seconds = np.full(len(names), np.nan)
    rows = home.tables.lookup(DATUMS, base, names)
    positions = np.asarray(pc.index_in(rows.column("name"), value_set=names), np.int64)
    batches = rows.column("batch").combine_chunks()
    ordinals = np.asarray(rows.column("ordinal"), np.int64)
    counts = pc.value_counts(batches).to_pylist()
    counts = [each for each in counts if each["values"] != NO_BATCH]
    for each in sorted(counts, key=lambda each: -each["counts"])[:BATCHES_READ_MAX]:
        chosen = np.flatnonzero(np.asarray(pc.equal(batches, pa.scalar(each["values"], batches.type))))
        results = read_batch_result(home.chunks, Digest(each["values"])).results
        seconds[positions[chosen]] = np.asarray(results.column("seconds"))[ordinals[chosen]]
    return seconds
