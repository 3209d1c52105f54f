package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/stage"
)

// measureHealMemory is the largest resident size of `reconciled heal --full`, run
// where no daemon is, in a log of nothing but gaps: few, and ten times as many.
func measureHealMemory(ctx context.Context, d *dataset, f *figures) error {
	for _, size := range []struct {
		name string
		gaps int
	}{{"heal.rss.mb.small", 20_000}, {"heal.rss.mb", 200_000}} {
		database := fmt.Sprintf("gaps%d", size.gaps)
		if err := d.gaps(ctx, database, size.gaps); err != nil {
			return err
		}
		bytes, err := d.healApart(ctx, database, size.gaps)
		if err := errors.Join(err, d.server.Exec(ctx, "postgres", `DROP DATABASE `+database)); err != nil {
			return err
		}
		f.add(size.name, float64(bytes)/(1<<20), "MB")
	}
	return nil
}

// gaps makes a database of n events that cannot be projected, and are in the book of
// gaps, due again: half wait for a product that never comes, half are malformed, and a
// hundredth are refused by the database, one by one.
func (d *dataset) gaps(ctx context.Context, database string, n int) error {
	if err := d.server.Exec(ctx, "postgres", `DROP DATABASE IF EXISTS `+database); err != nil {
		return err
	}
	if err := stage.Prepare(ctx, d.server, database); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, d.server.URL("postgres", database))
	if err != nil {
		return fmt.Errorf("connect to make gaps: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO public.stores (id, name) VALUES ($1, 'Bench')`, shop)
	batch.Queue(`INSERT INTO public.products (id, store_id, name) VALUES (md5('product')::uuid, $1, 'Bench')`, shop)
	batch.Queue(`ALTER TABLE public.inventory_movements ADD CHECK (note <> 'refused')`)
	batch.Queue(`INSERT INTO public.events (event_id, store_id, device_id, seq, type, version, created_at, payload, received_at)
		SELECT md5('event' || i)::uuid, $1, md5('device')::uuid, i, 'StockReceived', 1, at, jsonb_build_object('qty', 1,
				'movement_id', CASE kind WHEN 'poison' THEN 'none' ELSE md5('movement' || i)::uuid::text END,
				'product_id', CASE kind WHEN 'waiting' THEN md5('product' || i) ELSE md5('product') END::uuid,
				'note', CASE kind WHEN 'actionable' THEN 'refused' ELSE 'bench' END), at
		FROM generate_series(1, $2::bigint) AS i
		CROSS JOIN LATERAL (SELECT $3::timestamptz - i * interval '30 s' AS at,
			CASE WHEN i % 100 = 0 THEN 'actionable' WHEN i % 2 = 0 THEN 'waiting' ELSE 'poison' END AS kind) a`, shop, n, d.end)
	batch.Queue(`INSERT INTO reconciled.gap (store_id, event_id, type, created_ms, class, reason, waits_table, waits_id, attempts, last_error)
		SELECT store_id, event_id, type, reconciled.ms(created_at), CASE WHEN payload ->> 'note' = 'refused' THEN 'actionable'
				WHEN payload ->> 'movement_id' = 'none' THEN 'poison' ELSE 'waiting' END, 'as before',
			CASE WHEN payload ->> 'product_id' <> md5('product')::uuid::text THEN 'products' END,
			CASE WHEN payload ->> 'product_id' <> md5('product')::uuid::text THEN (payload ->> 'product_id')::uuid END, 1,
			CASE WHEN payload ->> 'note' = 'refused' THEN 'refused' END
		FROM public.events`)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("make gaps: %w", err)
	}
	if _, err := conn.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("make gaps: %w", err)
	}
	return nil
}

// healApart heals all of a database in a process of its own, which must end with as
// many gaps as it began with, and is that process's largest resident size in bytes.
func (d *dataset) healApart(ctx context.Context, database string, gaps int) (int64, error) {
	dir, err := os.MkdirTemp("", "reconciled-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary, err := buildProgram(ctx, dir)
	if err != nil {
		return 0, err
	}
	config, err := yaml.Marshal(map[string]any{
		"database": map[string]any{"url": d.server.URL("reconciled_runtime", database)},
		"api":      map[string]any{"listen": "127.0.0.1:1", "token": "bench-bench-bench-bench"}, // nobody listens there
		"stores":   []string{shop.String()},
	})
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, "reconciled.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return 0, err
	}
	command := exec.CommandContext(ctx, binary, "heal", "--full", "--output", "json", "--config", file)
	var out, trouble bytes.Buffer
	command.Stdout, command.Stderr = &out, &trouble
	peak, err := runWatched(command)
	if command.ProcessState == nil || command.ProcessState.ExitCode() > 1 { // 1: something failed, as it should
		return 0, fmt.Errorf("heal: %w: %s", err, trouble.String())
	}
	var report healer.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return 0, fmt.Errorf("read report of heal: %w: %s", err, trouble.String())
	}
	failed := gaps / 100
	want := healer.Counts{Checked: gaps, Failed: failed, Waiting: gaps/2 - failed, Poison: gaps / 2}
	if report.Counts != want {
		return 0, fmt.Errorf("healed %+v, want %+v", report.Counts, want)
	}
	return peak, nil
}

// runWatched runs a command and is its largest resident size in bytes. That is read
// while it lives: what wait4(2) tells of a child is never less than the size of the
// process that it was forked from.
func runWatched(command *exec.Cmd) (peak int64, err error) {
	if err := command.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case err := <-ended:
			return peak, err
		case <-tick:
			peak = max(peak, peakSize(command.Process.Pid))
		}
	}
}

// peakSize is a living process's largest resident size so far in bytes; 0 when it has
// ended.
func peakSize(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kB int64
	_, _ = fmt.Sscan(after, &kB)
	return kB << 10
}
