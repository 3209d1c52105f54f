package daemon

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// Journal is what the desk keeps of requests: the audit, and what was answered to those
// that may come twice.
type Journal struct {
	audit   *postgres.Audit
	answers *postgres.Answers
}

// NewJournal returns the one kept in db.
func NewJournal(db *postgres.DB) *Journal {
	return &Journal{audit: postgres.NewAudit(db), answers: postgres.NewAnswers(db)}
}

// did writes down what somebody did.
func (j *Journal) did(ctx context.Context, by, action string, store uuid.UUID, target, outcome string) error {
	return j.audit.Write(ctx, postgres.AuditEntry{
		Actor: by, Action: action, Store: uuid.NullUUID{UUID: store, Valid: true}, Target: target, Outcome: outcome,
		Detail: map[string]any{"via": "api"},
	})
}

// stranger is the actor who has no token.
const stranger = "unauthenticated"

// Refused writes down what was refused.
func (j *Journal) Refused(ctx context.Context, r httpapi.Refusal) error {
	entry := postgres.AuditEntry{
		Actor: r.By, Action: r.Action, Store: uuid.NullUUID{UUID: r.Store, Valid: r.Store != uuid.Nil}, Target: "api", Outcome: "refused",
		Detail: map[string]any{"status": r.Status, "code": r.Code, "request": r.RequestID, "remote": r.Remote},
	}
	if entry.Actor == "" {
		entry.Actor = stranger
	}
	if r.Status >= http.StatusInternalServerError {
		entry.Outcome = "failed"
	}
	if r.Field != "" {
		entry.Detail["field"] = r.Field
	}
	if r.Unwritten > 0 {
		entry.Detail["unwritten_before"] = r.Unwritten
	}
	return j.audit.Write(ctx, entry)
}

// Claim reserves an idempotency key.
func (j *Journal) Claim(ctx context.Context, key string, digest [32]byte) (*httpapi.Answer, error) {
	answer, err := j.answers.Claim(ctx, key, digest)
	switch {
	case errors.Is(err, postgres.ErrKeyReused):
		return nil, httpapi.ErrKeyReused
	case errors.Is(err, postgres.ErrKeyInUse):
		return nil, httpapi.ErrKeyInUse
	case errors.Is(err, postgres.ErrTooManyKeys):
		return nil, httpapi.ErrTooManyKeys
	}
	return (*httpapi.Answer)(answer), err
}

// Keep remembers the answer to a claimed key.
func (j *Journal) Keep(ctx context.Context, key string, answer httpapi.Answer) error {
	return j.answers.Keep(ctx, key, postgres.Answer(answer))
}

// Release forgets a claimed key.
func (j *Journal) Release(ctx context.Context, key string) error { return j.answers.Release(ctx, key) }
