-- Pools of workers as the fleet last saw them (design note 032). pipelines: JSON list of `project/name` that it serves. waiting, started:
-- members that have not joined; idle, busy: those that have. reason: why members can't start; empty where nothing is wrong.
CREATE TABLE pools (
    name TEXT PRIMARY KEY,
    engine TEXT NOT NULL,
    pipelines TEXT NOT NULL,
    waiting BIGINT NOT NULL,
    started BIGINT NOT NULL,
    idle BIGINT NOT NULL,
    busy BIGINT NOT NULL,
    reason TEXT NOT NULL,
    seen DOUBLE PRECISION NOT NULL
);
