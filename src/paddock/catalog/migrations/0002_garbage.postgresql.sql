-- What garbage collection needs to run beside writers (design note 010).

-- generation: counts how often garbage collection told writers apart (`versions.home.Home.pin`).
-- epoch: a random text that changes when packs are condemned (scan caches are void then).
CREATE TABLE store_state (
    id BIGINT PRIMARY KEY,
    generation BIGINT NOT NULL,
    epoch TEXT NOT NULL
);
INSERT INTO store_state (id, generation, epoch) VALUES (1, 1, '');

-- condemned: 0, or the generation up to which writers may still count on the pack's chunks. Later ones don't.
ALTER TABLE packs ADD COLUMN condemned BIGINT NOT NULL DEFAULT 0;

-- Roots that rows gave up, in which generation: whoever was pinned then may still be reading or copying them.
CREATE TABLE released_roots (
    kind TEXT NOT NULL,
    root TEXT NOT NULL,
    generation BIGINT NOT NULL
);

-- Triggers, so that no statement can forget to note what it gives up: (kind, column with the root).
CREATE FUNCTION release_root() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO released_roots SELECT TG_ARGV[0], to_jsonb(OLD) ->> TG_ARGV[1], generation FROM store_state; RETURN NULL; END; $$;
CREATE TRIGGER release_deleted_commit AFTER DELETE ON commits FOR EACH ROW WHEN (OLD.tree <> '') EXECUTE FUNCTION release_root('tree', 'tree');
CREATE TRIGGER release_replaced_tree AFTER UPDATE OF tree ON commits FOR EACH ROW WHEN (OLD.tree <> '' AND OLD.tree <> NEW.tree) EXECUTE FUNCTION release_root('tree', 'tree');
CREATE TRIGGER release_commit_write AFTER DELETE ON commit_writes FOR EACH ROW EXECUTE FUNCTION release_root('tree', 'files');
CREATE TRIGGER release_code AFTER DELETE ON pipeline_versions FOR EACH ROW WHEN (OLD.code <> '') EXECUTE FUNCTION release_root('tree', 'code');
CREATE TRIGGER release_deleted_datums AFTER DELETE ON jobs FOR EACH ROW WHEN (OLD.datums_root <> '') EXECUTE FUNCTION release_root('datums', 'datums_root');
CREATE TRIGGER release_replaced_datums AFTER UPDATE OF datums_root ON jobs FOR EACH ROW WHEN (OLD.datums_root <> '' AND OLD.datums_root <> NEW.datums_root) EXECUTE FUNCTION release_root('datums', 'datums_root');
CREATE TRIGGER release_results AFTER DELETE ON result_runs FOR EACH ROW EXECUTE FUNCTION release_root('cache', 'root');
