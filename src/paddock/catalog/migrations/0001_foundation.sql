-- Names, heads, jobs, leases and the chunk index. No per-file and no per-datum rows.
-- Times are seconds since 1970 (UTC); digests of roots are hex text, those of chunks are bytes.

CREATE TABLE schema_versions (
    version INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    applied DOUBLE PRECISION NOT NULL
);

CREATE TABLE projects (
    id {{identity}},
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);

CREATE TABLE repos (
    id {{identity}},
    project_id BIGINT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (project_id, name)
);

-- tree: of a finished commit its tree; of an open one the tree with its first `merged` writes (empty: none yet).
CREATE TABLE commits (
    id {{identity}},
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    set_id TEXT NOT NULL,
    branch TEXT NOT NULL,
    state TEXT NOT NULL,
    origin TEXT NOT NULL,
    parent_id BIGINT REFERENCES commits (id),
    description TEXT NOT NULL,
    error TEXT NOT NULL,
    tree TEXT NOT NULL,
    merged BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    files BIGINT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    finished DOUBLE PRECISION,
    UNIQUE (repo_id, set_id)
);
CREATE INDEX commits_by_set ON commits (set_id);
CREATE INDEX commits_by_parent ON commits (parent_id);

-- What was written to an open commit, in order of id. files: root of a tree of the files written; the
-- deletions (JSON lists of paths, and of prefixes of whole directories) come before them.
CREATE TABLE commit_writes (
    id {{identity}},
    commit_id BIGINT NOT NULL REFERENCES commits (id),
    files TEXT NOT NULL,
    deleted_paths TEXT NOT NULL,
    deleted_prefixes TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX commit_writes_by_commit ON commit_writes (commit_id);

CREATE TABLE branches (
    id {{identity}},
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    name TEXT NOT NULL,
    head_id BIGINT REFERENCES commits (id),
    tip_id BIGINT REFERENCES commits (id),
    open_id BIGINT REFERENCES commits (id),
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (repo_id, name)
);
CREATE INDEX branches_by_head ON branches (head_id);
CREATE INDEX branches_by_tip ON branches (tip_id);
CREATE INDEX branches_by_open ON branches (open_id);

CREATE TABLE branch_provenance (
    branch_id BIGINT NOT NULL REFERENCES branches (id),
    position BIGINT NOT NULL,
    upstream_id BIGINT NOT NULL REFERENCES branches (id),
    PRIMARY KEY (branch_id, upstream_id)
);
CREATE INDEX branch_provenance_by_upstream ON branch_provenance (upstream_id);

-- One row for each input branch of a computed commit; no upstream: the branch had no commit yet (an empty tree).
CREATE TABLE commit_provenance (
    commit_id BIGINT NOT NULL REFERENCES commits (id),
    position BIGINT NOT NULL,
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    branch TEXT NOT NULL,
    upstream_id BIGINT REFERENCES commits (id),
    PRIMARY KEY (commit_id, repo_id, branch)
);
CREATE INDEX commit_provenance_by_upstream ON commit_provenance (upstream_id);
CREATE INDEX commit_provenance_by_repo ON commit_provenance (repo_id);

CREATE TABLE pipelines (
    id {{identity}},
    project_id BIGINT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    repo_id BIGINT NOT NULL REFERENCES repos (id),
    branch_id BIGINT NOT NULL REFERENCES branches (id),
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX pipelines_by_branch ON pipelines (branch_id);
CREATE INDEX pipelines_by_repo ON pipelines (repo_id);

-- code: root of the tree of the code directory, or empty.
CREATE TABLE pipeline_versions (
    id {{identity}},
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id),
    version BIGINT NOT NULL,
    spec TEXT NOT NULL,
    transform TEXT NOT NULL,
    code TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (pipeline_id, version)
);

CREATE TABLE jobs (
    id {{identity}},
    set_id TEXT NOT NULL,
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id),
    version BIGINT NOT NULL,
    commit_id BIGINT NOT NULL UNIQUE REFERENCES commits (id),
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    no_cache BIGINT NOT NULL,
    base_id BIGINT,
    datums_root TEXT NOT NULL,
    failed_datums TEXT NOT NULL,
    total BIGINT NOT NULL,
    run BIGINT NOT NULL,
    reused BIGINT NOT NULL,
    recovered BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    started DOUBLE PRECISION,
    finished DOUBLE PRECISION,
    UNIQUE (pipeline_id, set_id)
);
CREATE INDEX jobs_by_set ON jobs (set_id);
CREATE INDEX jobs_by_state ON jobs (state);

-- A run of the job's list of datums to compute: positions first (included) to last (excluded), or a packed list.
CREATE TABLE batches (
    job_id BIGINT NOT NULL REFERENCES jobs (id),
    number BIGINT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    ordinals {{bytes}},
    state TEXT NOT NULL,
    worker TEXT NOT NULL,
    lease_expires DOUBLE PRECISION,
    attempt BIGINT NOT NULL,
    result TEXT NOT NULL,
    run BIGINT NOT NULL,
    recovered BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (job_id, number)
);
CREATE INDEX batches_by_state ON batches (state);

CREATE TABLE result_runs (
    id {{identity}},
    transform TEXT NOT NULL,
    root TEXT NOT NULL,
    entries BIGINT NOT NULL,
    job_id BIGINT,
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX result_runs_by_transform ON result_runs (transform);

CREATE TABLE packs (
    id {{identity}},
    name TEXT NOT NULL UNIQUE,
    size_bytes BIGINT NOT NULL,
    chunks BIGINT NOT NULL
);

CREATE TABLE chunks (
    digest {{bytes}} PRIMARY KEY,
    pack_id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    size BIGINT NOT NULL,
    codec BIGINT NOT NULL
) {{clustered}};
