-- Servers of a home on a catalog server (design note 039): where workers reach each of them, and when it last said that it is there.
CREATE TABLE servers (
    url TEXT PRIMARY KEY,
    seen DOUBLE PRECISION NOT NULL
);
