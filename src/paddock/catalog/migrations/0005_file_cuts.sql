-- What files that inputs split were cut into (design note 027): per rule, one table of kind `cut-files`. A cache.
CREATE TABLE file_cuts (
    rule TEXT PRIMARY KEY,
    root TEXT NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
CREATE TRIGGER release_replaced_cuts AFTER UPDATE OF root ON file_cuts WHEN OLD.root <> NEW.root BEGIN INSERT INTO released_roots SELECT 'cut-files', OLD.root, generation FROM store_state; END;
CREATE TRIGGER release_deleted_cuts AFTER DELETE ON file_cuts BEGIN INSERT INTO released_roots SELECT 'cut-files', OLD.root, generation FROM store_state; END;
