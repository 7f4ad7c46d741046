-- The key with which the servers of this home sign what workers may read (design note 039): one row, written by the first server that needs
-- it. secret: hex. A worker who knew it could read every pack.
CREATE TABLE permit_secret (
    id BIGINT PRIMARY KEY,
    secret TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
