package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

// planted is a database with the store in it and what sql makes as a superuser.
func planted(t *testing.T, sql ...string) *postgrestest.Site {
	t.Helper()
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	for _, statement := range sql {
		if err := site.Server.Exec(t.Context(), site.Name, strings.ReplaceAll(statement, "SHOP", "'"+shop.String()+"'")); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return site
}

func TestUndecidedConflictsAreListedWithBothDigests(t *testing.T) {
	book := postgres.NewConflicts(planted(t,
		`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload) VALUES ('0c000000-0000-4000-8000-000000000001', SHOP, SHOP, 1, 'StockReceived', 1, now(), '{}')`,
		`INSERT INTO reconciled.conflict (store_id, event_id, here_item, there_item, there, there_from, recommendation, found_at, decided_at) VALUES
			(SHOP, '0c000000-0000-4000-8000-000000000001', '\x0a', '\x0b', '{}', SHOP, 'both match', '2026-09-02', NULL),
			(SHOP, '0c000000-0000-4000-8000-000000000002', '\x0a', '\x0b', '{}', SHOP, 'neither', '2026-09-01', NULL),
			(SHOP, '0c000000-0000-4000-8000-000000000003', '\x0a', '\x0b', '{}', SHOP, 'decided', '2026-09-03', now())`).DB)
	list, total, err := book.Undecided(t.Context(), shop, 1)
	want := postgres.Conflict{
		Event: uuid.MustParse("0c000000-0000-4000-8000-000000000001"), Type: "StockReceived", Here: "0a", There: "0b", From: shop,
		Recommendation: "both match", Found: time.Date(2026, 9, 2, 0, 0, 0, 0, time.UTC),
	}
	if err != nil || total != 2 || len(list) != 1 || !list[0].Found.Equal(want.Found) {
		t.Fatalf("%+v, %d, %v", list, total, err)
	}
	if list[0].Found = want.Found; list[0] != want {
		t.Errorf("%+v, want %+v", list[0], want)
	}
	if list, _, err := book.Undecided(t.Context(), shop, 9); err != nil || len(list) != 2 || list[1].Type != "" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestThePOSsResolutionsAreListedWithoutTheirPayloads(t *testing.T) {
	book := postgres.NewConflicts(planted(t,
		`INSERT INTO conflict_audit_log (store_id, entity_type, entity_id, winner_event_id, loser_event_ids, strategy, winner_payload, resolved_at)
		SELECT SHOP, 'stock', 'p', 'w' || n, ARRAY(SELECT repeat('l', 1000) FROM generate_series(1, 1000)), 'lww', '{}', '2026-09-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 3) n`).DB)
	list, err := book.Resolved(t.Context(), shop, 2)
	if err != nil || len(list) != 2 || list[0].Winner != "w3" || list[1].Winner != "w2" || list[0].By == "" || len(list[0].Losers) != 20 || len(list[0].Losers[0]) != 64 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTheHealthHistoryReadsThePOSsRowsTheNewestFirst(t *testing.T) {
	history := postgres.NewHealthHistory(planted(t,
		`INSERT INTO federation_health_snapshots (store_id, overall_health, event_lag_count, remote_latency_ms, snapshot_at) VALUES
			(SHOP, 'healthy', 1, NULL, now() - interval '25 hours'), (SHOP, 'degraded', 2, NULL, now() - interval '2 hours'), (SHOP, 'critical', NULL, 40, now() - interval '1 hour')`).DB)
	list, err := history.Since(t.Context(), shop, 24*time.Hour, 10)
	if err != nil || len(list) != 2 || list[0].Overall != "critical" || list[0].EventLag != 0 || *list[0].RemoteLatencyMs != 40 || list[1].EventLag != 2 || list[1].RemoteLatencyMs != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := history.Since(t.Context(), shop, 168*time.Hour, 1); err != nil || len(list) != 1 || list[0].Overall != "critical" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestFiscalRangesAreListedAsTheyAreTheActiveFirst(t *testing.T) {
	book := postgres.NewGrantedRanges(planted(t,
		`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at, expires_at) VALUES
			(SHOP, SHOP, 'till 1', 1, 100, 100, 'exhausted', '2026-09-03', '2026-09-04'), (SHOP, SHOP, 'till 1', 101, 200, 7, 'active', '2026-09-01', 'infinity'),
			(SHOP, SHOP, 'till 2', 201, 300, NULL, NULL, NULL, '2026-09-04')`).DB)
	list, total, err := book.List(t.Context(), shop, 2)
	if err != nil || total != 3 || len(list) != 2 || list[0].Start != 101 || list[0].UsedUpTo != 7 || list[0].Expires != nil || list[1].Status != "exhausted" || list[1].Expires == nil {
		t.Errorf("%+v, %d, %v", list, total, err)
	}
}

func TestRunsAreListedTheNewestFirstWithoutTheirReports(t *testing.T) {
	runs := postgres.NewRuns(planted(t,
		`INSERT INTO reconciled.run (id, task, store_id, trigger, state, report, error, started_at)
		SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'heal' ELSE 'reconcile' END, SHOP, 'api', 'failed', '{"a": 1}', repeat('x', 10000), '2026-09-01'::timestamptz + n * interval '1 minute'
		FROM generate_series(1, 6) n`).DB)
	list, err := runs.List(t.Context(), shop, "", 4)
	tasks := make([]string, len(list))
	for i, run := range list {
		tasks[i] = run.Task
		if len(run.Error) != 500 || run.Report != nil || !run.Finished.IsZero() {
			t.Errorf("%+v", run)
		}
	}
	if err != nil || !slices.Equal(tasks, []string{"heal", "reconcile", "heal", "reconcile"}) || list[0].Started.Minute() != 6 {
		t.Errorf("%v, %v", tasks, err)
	}
	if list, err := runs.List(t.Context(), shop, "heal", 10); err != nil || len(list) != 3 {
		t.Errorf("%d, %v", len(list), err)
	}
}
