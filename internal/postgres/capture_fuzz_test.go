package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// What a column of the log may be given, as SQL literals: ordinary values beside
// those that a POS should not write but can.
var (
	fuzzIDs = []string{
		"'00000000-0000-0000-0000-00000000000a'", "'00000000-0000-0000-0000-00000000000b'", "'00000000-0000-0000-0000-00000000000c'",
		"'00000000-0000-0000-0000-00000000000d'", "'00000000-0000-0000-0000-00000000000e'", "'00000000-0000-0000-0000-00000000000f'",
	}
	fuzzStores = []string{"'" + shop.String() + "'", "'" + shop.String() + "'", "'" + otherShop.String() + "'", "'99999999-9999-4999-8999-999999999999'"}
	fuzzTimes  = []string{
		"'2026-11-23 10:00+00'", "'2026-11-23 10:00:00.000999+00'", "'2026-11-23 10:20+00'", "'2020-01-01'", "'1969-12-31 23:59:59.9999+00'",
		"'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999+00'",
	}
	fuzzTypes    = []string{"'StockAdjusted'", "'StockAdjusted'", "'SaleCreated'", "''", "'ñandú ⚡'"}
	fuzzSeqs     = []string{"1", "2", "-9223372036854775808", "9223372036854775807"}
	fuzzVersions = []string{"1", "-2147483648", "2147483647"}
	fuzzSaid     = []string{`'{}'`, `'{"a": 1}'`, `'{"a": 1.0}'`, `'"x"'`, `'null'`, `'[]'`, `'{"b": {"ñ": [1e3, null]}}'`}
	fuzzRequests = []string{"NULL", "NULL", "NULL", "'eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee'"}
)

const fuzzColumns = `event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload, full_payload_hash, request_id`

func oneOf(t *rapid.T, what string, list []string) string {
	return rapid.SampledFrom(list).Draw(t, what)
}

// orNull is sometimes NULL: in most columns that is an error of the statement.
func orNull(t *rapid.T, what string, list []string) string {
	if rapid.IntRange(0, 19).Draw(t, what+" is NULL") == 13 {
		return "NULL"
	}
	return oneOf(t, what, list)
}

func fuzzRow(t *rapid.T) []string {
	return []string{
		oneOf(t, "event_id", fuzzIDs), orNull(t, "store_id", fuzzStores), "'" + shop.String() + "'", orNull(t, "seq", fuzzSeqs),
		orNull(t, "type", fuzzTypes), oneOf(t, "version", fuzzVersions), orNull(t, "created_at", fuzzTimes), orNull(t, "payload", fuzzSaid),
		oneOf(t, "delta_payload", append([]string{"NULL", "NULL"}, fuzzSaid...)), "'hash'", oneOf(t, "request_id", fuzzRequests),
	}
}

func fuzzRows(t *rapid.T) (rows [][]string) {
	for range rapid.IntRange(1, 4).Draw(t, "rows") {
		rows = append(rows, fuzzRow(t))
	}
	return rows
}

func values(rows [][]string) string {
	var list []string
	for _, row := range rows {
		list = append(list, "("+strings.Join(row, ", ")+")")
	}
	return "VALUES " + strings.Join(list, ", ")
}

// typed is a row's values cast, as a VALUES list by itself needs them.
func typed(rows [][]string) string {
	casts := []string{"uuid", "uuid", "uuid", "bigint", "text", "int", "timestamptz", "jsonb", "jsonb", "text", "uuid"}
	for _, row := range rows {
		for i := range row {
			row[i] += "::" + casts[i]
		}
	}
	return values(rows)
}

func fuzzWhere(t *rapid.T) string {
	return oneOf(t, "where", []string{
		"event_id = " + oneOf(t, "event_id", fuzzIDs), "event_id <> " + oneOf(t, "event_id", fuzzIDs), "seq < 2", "type = 'StockAdjusted'",
		"created_at < '2026-01-01'", "created_at >= '2026-01-01'", "true", "false", "event_id > '00000000-0000-0000-0000-00000000000c'",
	})
}

func fuzzSet(t *rapid.T) string {
	return oneOf(t, "set", []string{
		"event_id = " + oneOf(t, "event_id", fuzzIDs), "store_id = " + orNull(t, "store_id", fuzzStores), "seq = seq + 1", "seq = " + orNull(t, "seq", fuzzSeqs),
		"created_at = " + orNull(t, "created_at", fuzzTimes), "created_at = created_at + interval '1 microsecond'",
		"type = " + orNull(t, "type", fuzzTypes), "version = 2", "payload = " + orNull(t, "payload", fuzzSaid),
		"delta_payload = " + orNull(t, "delta_payload", fuzzSaid), "conflict_status = 'auto_resolved'", "full_payload_hash = NULL", "version = version - 1",
		"projection_status = 'processed'", "payload = payload", "device_id = event_id, created_at = " + oneOf(t, "created_at", fuzzTimes),
		"event_id = (" + oneOf(t, "event_id", fuzzIDs) + ")::uuid, payload = '{}'",
	})
}

// act is what a session does: SQL, and for COPY its data.
type act struct{ sql, data string }

// fuzzCopy copies rows in; a literal without its quotes is as COPY has it.
func fuzzCopy(rows [][]string) act {
	var data strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = strings.Trim(cell, "'"); cell == "NULL" {
				row[i] = `\N`
			}
		}
		data.WriteString(strings.Join(row, "|") + "\n")
	}
	return act{`COPY public.events (` + fuzzColumns + `) FROM STDIN (DELIMITER '|')`, data.String()}
}

// fuzzStatement is a statement that writes events in one of the many ways there are.
func fuzzStatement(t *rapid.T) string {
	insert := `INSERT INTO public.events (` + fuzzColumns + `) `
	switch rapid.IntRange(0, 14).Draw(t, "statement") {
	case 0, 1, 2, 3:
		return insert + values(fuzzRows(t))
	case 4:
		return insert + values(fuzzRows(t)) + ` ON CONFLICT DO NOTHING`
	case 5:
		return insert + values(fuzzRows(t)) + ` ON CONFLICT (event_id) DO UPDATE SET payload = excluded.payload, created_at = excluded.created_at`
	case 6, 7, 8:
		return `UPDATE public.events SET ` + fuzzSet(t) + ` WHERE ` + fuzzWhere(t)
	case 9, 10:
		return `DELETE FROM public.events WHERE ` + fuzzWhere(t)
	case 11:
		return oneOf(t, "truncate", []string{`TRUNCATE public.events`, `TRUNCATE public.events RESTART IDENTITY CASCADE`, `TRUNCATE ONLY public.events`})
	case 12:
		return `WITH moved AS (DELETE FROM public.events WHERE ` + fuzzWhere(t) + ` RETURNING ` + fuzzColumns + `)
			INSERT INTO public.events (` + fuzzColumns + `) SELECT ` + strings.Replace(fuzzColumns, "event_id", "md5(event_id::text)::uuid", 1) + ` FROM moved`
	case 13:
		return `WITH changed AS (UPDATE public.events SET ` + fuzzSet(t) + ` WHERE ` + fuzzWhere(t) + ` RETURNING event_id),
			more AS (` + insert + values(fuzzRows(t)) + ` ON CONFLICT DO NOTHING RETURNING event_id)
			DELETE FROM public.events WHERE ` + fuzzWhere(t) + ` AND event_id NOT IN (SELECT event_id FROM changed)`
	default:
		return `MERGE INTO public.events e USING (` + typed(fuzzRows(t)) + `) AS n (` + fuzzColumns + `) ON e.event_id = n.event_id
			WHEN MATCHED AND e.seq = 1 THEN DELETE
			WHEN MATCHED THEN UPDATE SET payload = n.payload, store_id = n.store_id
			WHEN NOT MATCHED THEN INSERT (` + fuzzColumns + `) VALUES (n.` + strings.ReplaceAll(fuzzColumns, ", ", ", n.") + `)`
	}
}

// fuzzAct is a statement that writes, or one that changes how those run.
func fuzzAct(t *rapid.T) act {
	switch rapid.IntRange(0, 9).Draw(t, "act") {
	case 0, 1, 2, 3, 4, 5:
		return act{sql: fuzzStatement(t)}
	case 6:
		return fuzzCopy(fuzzRows(t))
	}
	return act{sql: oneOf(t, "setting", []string{
		`COMMIT`, `SAVEPOINT a`, `BEGIN`, `SET search_path = odd, pg_catalog, public`, `BEGIN ISOLATION LEVEL REPEATABLE READ`, `BEGIN ISOLATION LEVEL SERIALIZABLE`, `BEGIN READ ONLY`, `ROLLBACK`,
		`SAVEPOINT a`, `ROLLBACK TO SAVEPOINT a`, `RELEASE SAVEPOINT a`,
		`SET search_path = pg_temp`, `SET search_path = ''`, `SET row_security = off`,
		`SET TimeZone = 'America/Caracas'`, `SET DateStyle = 'German, DMY'`, `SET bytea_output = 'escape'`,
		`SET standard_conforming_strings = off`, `SET IntervalStyle = 'iso_8601'`, `SET extra_float_digits = -15`, `SET xmloption = 'document'`,
		`SET default_transaction_deferrable = on`, `SET check_function_bodies = off`, `SET plan_cache_mode = force_generic_plan`, `DISCARD PLANS`,
		`SET work_mem = '64kB'`, `SET role = velox`, `SET statement_timeout = '10s'`, `RESET ALL`, `SET enable_hashjoin = off`,
	})}
}

// twin is a database as the POS's own role sees it, in two sessions.
type twin struct {
	*postgrestest.Site
	sessions [2]*pgx.Conn
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	w := &twin{Site: postgrestest.New(t)}
	w.AddStore(t, shop)
	w.AddStore(t, otherShop)
	execSuper(t, w.Site, `CREATE SCHEMA odd AUTHORIZATION velox; GRANT USAGE ON SCHEMA odd TO PUBLIC; ALTER DATABASE `+w.Name+` SET lock_timeout = '300ms'`)
	for _, shadow := range []string{"sha256(bytea) RETURNS bytea", "uuid_send(uuid) RETURNS bytea", "octet_length(bytea) RETURNS int", "clock_timestamp() RETURNS timestamptz"} {
		exec(t, w.Owner, `CREATE FUNCTION odd.`+shadow+` LANGUAGE plpgsql AS $$ BEGIN RAISE 'the shop''s own function was called'; END $$`)
	}
	for i := range w.sessions {
		conn, err := pgx.Connect(t.Context(), w.Server.URL("velox", w.Name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		w.sessions[i] = conn
	}
	return w
}

// reset empties the log and all that was kept of it.
func (w *twin) reset(t *testing.T) {
	t.Helper()
	for _, s := range w.sessions {
		_, _ = s.Exec(t.Context(), `ROLLBACK`)
		exec(t, s, `DISCARD ALL`)
	}
	execSuper(t, w.Site, `DELETE FROM events; DELETE FROM reconciled.dirty; DELETE FROM reconciled.leaf; DELETE FROM reconciled.root;
		DELETE FROM reconciled.deletion; DELETE FROM reconciled.evidence; DELETE FROM reconciled.worklist`)
}

// do runs an act and says how it ended: its tag, or its SQLSTATE.
func (w *twin) do(t *testing.T, session int, a act) string {
	t.Helper()
	conn := w.sessions[session].PgConn()
	var tag pgconn.CommandTag
	var err error
	if a.data != "" {
		tag, err = conn.CopyFrom(t.Context(), strings.NewReader(a.data), a.sql)
	} else {
		var results []*pgconn.Result
		if results, err = conn.Exec(t.Context(), a.sql).ReadAll(); len(results) > 0 {
			tag = results[0].CommandTag
		}
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "SQLSTATE " + pgErr.Code
	}
	if err != nil {
		t.Fatalf("%s: %v", a.sql, err)
	}
	return tag.String()
}

// locked reports whether an open transaction keeps readers from the log.
func (w *twin) locked(t *testing.T) (locked bool) {
	t.Helper()
	err := w.DB.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'events'::regclass AND mode = 'AccessExclusiveLock')`).Scan(&locked)
	if err != nil {
		t.Fatal(err)
	}
	return locked
}

// dump is the whole log.
func (w *twin) dump(t *testing.T) (text string) {
	t.Helper()
	err := w.DB.Pool.QueryRow(t.Context(), `SELECT coalesce(string_agg((`+fuzzColumns+`, conflict_status, projection_status)::text, E'\n' ORDER BY event_id), '') FROM events`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTheTriggersChangeNothingForThePOS runs the same statements against a log
// with the triggers and one without: each ends the same way, without waiting, and
// the tree is what the log says.
func TestTheTriggersChangeNothingForThePOS(t *testing.T) {
	with, without := newTwin(t), newTwin(t)
	execSuper(t, without.Site, `DROP TRIGGER reconciled_insert ON events; DROP TRIGGER reconciled_update ON events;
		DROP TRIGGER reconciled_delete ON events; DROP TRIGGER reconciled_truncate ON events`)
	succeeded := 0
	rapid.Check(t, func(rt *rapid.T) {
		with.reset(t)
		without.reset(t)
		log := postgres.NewLog(with.DB)
		for range rapid.IntRange(1, 25).Draw(rt, "acts") {
			if rapid.IntRange(0, 4).Draw(rt, "drain") == 0 && !with.locked(t) {
				fuzzPin(t, rt, log, shop)
			}
			session, next := rapid.IntRange(0, 1).Draw(rt, "session"), fuzzAct(rt)
			want, got := without.do(t, session, next), with.do(t, session, next)
			if got != want {
				rt.Fatalf("session %d: %s\n%sends as %s, without the triggers as %s", session, next.sql, next.data, got, want)
			}
			if strings.Contains(next.sql, "public.events") && !strings.HasPrefix(got, "SQLSTATE") {
				succeeded++
			}
		}
		for session := range with.sessions {
			if want, got := without.do(t, session, act{sql: `COMMIT`}), with.do(t, session, act{sql: `COMMIT`}); got != want {
				rt.Fatalf("commit ends as %s, without the triggers as %s", got, want)
			}
		}
		if want, got := without.dump(t), with.dump(t); got != want {
			rt.Fatalf("the log is\n%s\nand without the triggers\n%s", got, want)
		}
		for _, store := range []velox.StoreID{shop, otherShop} {
			fuzzPin(t, rt, log, store) // it may find that a slot is due again
			want := rebuiltOf(t, with.Site, store)
			if got := fuzzPin(t, rt, log, store); got != want {
				rt.Fatalf("the tree says %+v, its events say %+v", got, want)
			}
			if got := fuzzPin(t, rt, postgres.NewLog(with.DB), store); got != want {
				rt.Fatalf("the leaves say %+v, the events %+v", got, want)
			}
		}
	})
	if succeeded < 100 {
		t.Errorf("only %d statements wrote anything", succeeded)
	}
}

func fuzzPin(t *testing.T, rt *rapid.T, log *postgres.Log, store velox.StoreID) merkle.Summary {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // an open transaction of the shop must not keep it waiting
	defer cancel()
	p, err := log.Pin(ctx, store)
	if err != nil {
		rt.Fatalf("pin: %v", err)
	}
	return p.Tree.Root()
}
