-- What workers' time went into (design note 029), in seconds: of the batch's report, and when the job has ended, of the job.
ALTER TABLE batches ADD COLUMN input_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN start_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN code_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN output_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN report_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN other_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;

-- times: JSON of numbers, null where nothing was recorded: `workers` that the job could have, and the seconds `plan`, `merge`,
-- and, summed over the batches once the job has ended, `input`, `start`, `code`, `output`, `report`, `other`.
ALTER TABLE jobs ADD COLUMN times TEXT;
