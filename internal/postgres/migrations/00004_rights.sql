-- +goose Up

-- The runtime role reads everything, appends evidence, and removes only what is
-- work in progress. audit and heal_log are append-only for it;
-- removed_row is written by the definer function alone.
GRANT USAGE ON SCHEMA reconciled TO reconciled_runtime;
GRANT SELECT ON ALL TABLES IN SCHEMA reconciled TO reconciled_runtime;
GRANT INSERT, UPDATE ON reconciled.worklist, reconciled.leaf, reconciled.root, reconciled.fence, reconciled.lease,
    reconciled.peer, reconciled.exception, reconciled.conflict, reconciled.said, reconciled.gap,
    reconciled.quarantine, reconciled.run TO reconciled_runtime;
GRANT INSERT, UPDATE (deleted_at, item) ON reconciled.deletion TO reconciled_runtime;
GRANT INSERT ON reconciled.dirty, reconciled.heal_log, reconciled.audit TO reconciled_runtime;
GRANT DELETE ON reconciled.dirty, reconciled.worklist, reconciled.gap, reconciled.exception, reconciled.run TO reconciled_runtime;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reconciled FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reconciled TO reconciled_runtime;

-- +goose Down
SELECT 1 / 0 AS "rights are taken back by hand";
