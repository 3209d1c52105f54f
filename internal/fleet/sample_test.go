package fleet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/velox"
)

// lines reads a file of JSON lines that belongs to package velox.
func lines[T any](t testing.TB, name string) []T {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "velox", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []T
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

func sampleEvents(t testing.TB) []velox.Event {
	t.Helper()
	type row struct {
		ID       uuid.UUID       `json:"event_id"`
		Store    uuid.UUID       `json:"store_id"`
		Device   uuid.UUID       `json:"device_id"`
		Seq      int64           `json:"seq"`
		Type     velox.Type      `json:"type"`
		At       time.Time       `json:"created_at"`
		Actor    uuid.NullUUID   `json:"actor_user_id"`
		Payload  json.RawMessage `json:"payload"`
		Delta    json.RawMessage `json:"delta_payload"`
		Hash     string          `json:"full_payload_hash"`
		Conflict string          `json:"conflict_status"`
	}
	var events []velox.Event
	for _, r := range lines[row](t, "events.jsonl") {
		events = append(events, velox.Event{
			ID: r.ID, Store: r.Store, Device: r.Device, Seq: r.Seq, Type: r.Type, CreatedAt: velox.MillisOf(r.At),
			Actor: r.Actor, Payload: r.Payload, Delta: r.Delta, Hash: r.Hash, ConflictStatus: r.Conflict,
		})
	}
	return events
}

// The real backend's rows differ from the fold of its own log in just what it is
// known to get wrong.
func TestTheRealBackendsRowsAreTheFoldButForItsKnownFaults(t *testing.T) {
	ctx := context.Background()
	ref := fleet.Reference{
		Store: store, Name: "Real", CreatedAt: monday,
		Profiles:   []uuid.UUID{uuid.MustParse("22222222-2222-4222-8222-222222222222")},
		Warehouses: []uuid.UUID{uuid.MustParse("33333333-3333-4333-8333-333333333333")},
		Series:     []uuid.UUID{uuid.MustParse("f7ce1856-460d-41af-b5e0-65bd17c05156")},
	}
	pool := database(t)
	if err := ref.Insert(ctx, pool); err != nil {
		t.Fatal(err)
	}
	type row struct {
		Table string          `json:"table"`
		Row   json.RawMessage `json:"row"`
	}
	rows := lines[row](t, "projected.jsonl")
	for _, table := range []string{"products", "customers", "cash_sessions", "sales", "sale_items", "debts", "debt_payments", "inventory_movements"} {
		for _, r := range rows {
			if r.Table != table {
				continue
			}
			if _, err := pool.Exec(ctx, `INSERT INTO `+table+` SELECT * FROM jsonb_populate_record(NULL::`+table+`, $1)`, string(r.Row)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, got := fleet.Fold(sampleEvents(t), ref), mustLoad(t, pool)
	got.Stock = want.Stock // the sample holds no totals
	var found []string
	for _, line := range fleet.Diff(want, got) {
		found = append(found, strings.ReplaceAll(line, "9a7a5ddd-d7c1-4db6-9500-ba8ba9b6ef59", "harina"))
	}
	known := []string{
		// A payment that a concurrent one overwrote.
		"debt_payments 1234c868-8169-408f-87d5-0da0c4713bab: missing",
		// A void that came before its sale.
		"inventory_movements 532c6fea-bda1-409e-82f6-dcdf76942c8a/harina//void: missing",
		"sales 532c6fea-bda1-409e-82f6-dcdf76942c8a.void_reason: NULL, want early",
		"sales 532c6fea-bda1-409e-82f6-dcdf76942c8a.voided_at: NULL, want 1795439867251",
		"sales 532c6fea-bda1-409e-82f6-dcdf76942c8a.voided_by_user_id: NULL, want 22222222-2222-4222-8222-222222222222",
		// A receipt that a concurrent one overwrote; the winner's movement has
		// the loser's time.
		"inventory_movements 81075682-b272-44a7-a521-d2a4d9cf8940.happened_at: 1795439807251, want 1795439867251",
		"inventory_movements ce9c4795-eb18-4788-8755-9edf166b702b: missing",
	}
	slices.Sort(known)
	slices.Sort(found)
	if !slices.Equal(found, known) {
		t.Errorf("differences\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(known, "\n"))
	}
	waiting := []uuid.UUID{uuid.MustParse("65a86da4-eaf8-4e0e-bedd-15ea4b8dd58a")} // its product has no event
	if !slices.Equal(want.Waiting, waiting) {
		t.Errorf("waiting: %v, want %v", want.Waiting, waiting)
	}
}
