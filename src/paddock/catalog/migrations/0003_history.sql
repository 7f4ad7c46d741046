-- Names of commits that never move (design note 012). A tag keeps its commit from being removed or forgotten.
CREATE TABLE tags (
    id {{identity}},
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    name TEXT NOT NULL,
    commit_id BIGINT NOT NULL REFERENCES commits (id),
    description TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (repo_id, name)
);
CREATE INDEX tags_by_commit ON tags (commit_id);
