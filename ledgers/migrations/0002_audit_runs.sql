-- What each audit found that was run with --record: the operator exports the newest as metrics.
CREATE TABLE audit_runs (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    violations integer NOT NULL CHECK (violations >= 0)
);
