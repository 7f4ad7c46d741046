-- What a home on a catalog server needs (design notes 030 and 031).

-- What home.json says of a home on disk: of a home on a catalog server, its one row. chunking: JSON. storage: URL of the
-- objects. claimed: whether the store bears the home's mark yet.
CREATE TABLE home (
    id BIGINT PRIMARY KEY,
    home_id TEXT NOT NULL,
    format_version BIGINT NOT NULL,
    chunking TEXT NOT NULL,
    storage TEXT NOT NULL,
    claimed BIGINT NOT NULL
);

-- epoch: counts the schedulers that there have been. url: of the server whose process schedules; empty: none that is reached.
CREATE TABLE scheduler (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    url TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL
);
INSERT INTO scheduler (id, epoch, url, since) VALUES (1, 0, '', 0);

-- digest: BLAKE3 of the token, which is kept nowhere. A token is good for the workers of one pool.
CREATE TABLE pool_tokens (
    id {{identity}},
    pool TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
