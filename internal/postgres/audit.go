package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// decision is what a person decided, for the audit.
type decision struct {
	actor, action, target, outcome string
	detail                         map[string]any
}

const writeAudit = `INSERT INTO reconciled.audit (actor, action, store_id, target, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6)`

func audit(ctx context.Context, tx pgx.Tx, store velox.StoreID, d decision) error {
	if _, err := tx.Exec(ctx, writeAudit, d.actor, d.action, store, d.target, d.outcome, d.detail); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// Audit is the record of what people did and of what was refused to them, where that
// is no part of a transaction. It is append-only. Safe for concurrent use.
type Audit struct{ db *DB }

// NewAudit returns the audit kept in db.
func NewAudit(db *DB) *Audit { return &Audit{db: db} }

// AuditEntry is a row of the audit.
type AuditEntry struct {
	Actor, Action, Target, Outcome string
	Store                          uuid.NullUUID
	Detail                         map[string]any // small; holds no secret
}

// Write appends an entry.
func (a *Audit) Write(ctx context.Context, e AuditEntry) error {
	if e.Detail == nil {
		e.Detail = map[string]any{}
	}
	if _, err := a.db.Pool.Exec(ctx, writeAudit, e.Actor, e.Action, e.Store, e.Target, e.Outcome, e.Detail); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}
