-- Kept results with limits, carried over, audited (design note 025); work begun early (design note 028).

-- stored_bytes: what computing the results added to the object store. used: when one of them was last made or found.
ALTER TABLE result_runs ADD COLUMN stored_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE result_runs ADD COLUMN used DOUBLE PRECISION NOT NULL DEFAULT 0;
UPDATE result_runs SET used = created;
ALTER TABLE batches ADD COLUMN stored_bytes BIGINT NOT NULL DEFAULT 0;

-- Limits of the home; NULL: none. audit_share: of the reused datums of each job, 0 to 1.
CREATE TABLE cache_policy (
    id BIGINT PRIMARY KEY,
    bytes_max BIGINT,
    age_seconds_max DOUBLE PRECISION,
    audit_share DOUBLE PRECISION NOT NULL
);
INSERT INTO cache_policy (id, bytes_max, age_seconds_max, audit_share) VALUES (1, NULL, NULL, 0);

-- Of the reused datums: found among the results of other jobs, and of these carried over from another transform.
-- early: computed before the job's inputs were finished; wasted: of these, those that the job came not to have.
-- audit_share: NULL is the home's. audit: JSON, or empty.
ALTER TABLE jobs ADD COLUMN found BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN carried BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN early BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN wasted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN audit_share DOUBLE PRECISION;
ALTER TABLE jobs ADD COLUMN audit TEXT NOT NULL DEFAULT '';

-- carries: transforms of earlier versions whose results count too, newest first, as hex digests with spaces between.
-- first_no_cache, first_audit_share: what the first job of the version is to do, however it comes to be.
ALTER TABLE pipeline_versions ADD COLUMN carries TEXT NOT NULL DEFAULT '';
ALTER TABLE pipeline_versions ADD COLUMN first_no_cache BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pipeline_versions ADD COLUMN first_audit_share DOUBLE PRECISION;
