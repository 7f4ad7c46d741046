-- What files that inputs split were cut into (design note 027): per rule, one table of kind `cut-files`. A cache.
CREATE TABLE file_cuts (
    rule TEXT PRIMARY KEY,
    root TEXT NOT NULL,
    used DOUBLE PRECISION NOT NULL
);
CREATE TRIGGER release_replaced_cuts AFTER UPDATE OF root ON file_cuts FOR EACH ROW WHEN (OLD.root <> NEW.root) EXECUTE FUNCTION release_root('cut-files', 'root');
CREATE TRIGGER release_deleted_cuts AFTER DELETE ON file_cuts FOR EACH ROW EXECUTE FUNCTION release_root('cut-files', 'root');
