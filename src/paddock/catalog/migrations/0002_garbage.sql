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

-- Triggers, so that no statement can forget to note what it gives up.
CREATE TRIGGER release_deleted_commit AFTER DELETE ON commits WHEN OLD.tree <> '' BEGIN INSERT INTO released_roots SELECT 'tree', OLD.tree, generation FROM store_state; END;
CREATE TRIGGER release_replaced_tree AFTER UPDATE OF tree ON commits WHEN OLD.tree <> '' AND OLD.tree <> NEW.tree BEGIN INSERT INTO released_roots SELECT 'tree', OLD.tree, generation FROM store_state; END;
CREATE TRIGGER release_commit_write AFTER DELETE ON commit_writes BEGIN INSERT INTO released_roots SELECT 'tree', OLD.files, generation FROM store_state; END;
CREATE TRIGGER release_code AFTER DELETE ON pipeline_versions WHEN OLD.code <> '' BEGIN INSERT INTO released_roots SELECT 'tree', OLD.code, generation FROM store_state; END;
CREATE TRIGGER release_deleted_datums AFTER DELETE ON jobs WHEN OLD.datums_root <> '' BEGIN INSERT INTO released_roots SELECT 'datums', OLD.datums_root, generation FROM store_state; END;
CREATE TRIGGER release_replaced_datums AFTER UPDATE OF datums_root ON jobs WHEN OLD.datums_root <> '' AND OLD.datums_root <> NEW.datums_root BEGIN INSERT INTO released_roots SELECT 'datums', OLD.datums_root, generation FROM store_state; END;
CREATE TRIGGER release_results AFTER DELETE ON result_runs BEGIN INSERT INTO released_roots SELECT 'cache', OLD.root, generation FROM store_state; END;
