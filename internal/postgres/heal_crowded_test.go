package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// crowd logs events of a till whose clock is dead, of a type that leaves no rows.
func (h *healing) crowd(name string, n int) {
	h.Helper()
	h.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, received_at)
		SELECT gen_random_uuid(), $1, $2, n, 'SomethingNew', 1, '1970-01-01'::timestamptz + n * interval '100 ms',
			jsonb_build_object('name', $3::text || n), now() - interval '1 hour'
		FROM generate_series(1, $4::int) n`, shop, tillA, name, n)
}

// looks drains the log, runs the healer, and wants so many events looked at.
func (h *healing) looks(events int, when string) healer.Report {
	h.Helper()
	if _, err := postgres.NewLog(h.site.DB).Pin(h.ctx, shop); err != nil {
		h.Fatal(err)
	}
	h.grant.Run = uuid.New()
	report, err := h.healer.Run(h.ctx, h.grant, nil)
	if err != nil || report.Checked != events {
		h.Errorf("%s: looked at %d events, want %d; %v", when, report.Checked, events, err)
	}
	return report
}

func TestOfACrowdedSlotOnlyTheEventsThatItIsAboutAreLookedAt(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.crowd("one ", 1001)
	h.looks(1001, "all are new")
	late := func(i int) said {
		e := product(fmt.Sprint("late ", i), 0)
		e.at = time.Unix(int64(300+i), 0)
		return e
	}
	h.log(late(1), late(2))
	h.looks(2, "two more")
	h.expect("2", `SELECT count(*) FROM products`)
	h.looks(0, "nothing new")

	h.exec(`UPDATE products SET name = 'x' WHERE id = $1`, id("late 1"))
	h.looks(1, "a row changed")
	h.expect("late 1", `SELECT name FROM products WHERE id = $1`, id("late 1"))
	h.looks(1, "by the healer")

	h.exec(`DELETE FROM products WHERE id = $1`, id("late 2"))
	h.exec(`DELETE FROM events WHERE event_id = $1`, late(1).event)
	h.looks(1, "a row and an event are gone")
	h.expect("2", `SELECT count(*) FROM products`)

	h.exec(`SET session_replication_role = replica; DELETE FROM products; RESET session_replication_role`)
	if _, err := h.healer.Sift(h.ctx, h.grant, nil); err != nil {
		t.Fatal(err)
	}
	h.looks(1, "a row is lost")

	h.exec(`UPDATE events SET payload = '{}' WHERE payload ->> 'name' IN ('one 7', 'one 8')`)
	h.looks(2, "content changed")
}

func TestAnEventOfACrowdedSlotStaysNamedUntilItsGraceEnds(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.crowd("one ", 1001)
	h.looks(1001, "all are new")
	fresh := product("fresh", 0)
	fresh.at = time.Unix(300, 0)
	h.log(fresh)
	h.exec(`UPDATE events SET received_at = now() WHERE event_id = $1`, fresh.event)
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target) VALUES ($1, 'ProductCreated', $2, 'projection')`, fresh.event.String(), shop)
	if report := h.looks(1, "fresh"); report.Backend != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.looks(0, "put off")
	h.exec(`UPDATE events SET received_at = now() - interval '1 hour'`)
	h.exec(`UPDATE reconciled.worklist SET not_before = now()`)
	if report := h.looks(1, "its time has come"); report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.looks(0, "done")
}

// Whoever puts a slot on the list and names no events means all of them, whatever was
// named before or is named after.
func TestACrowdedSlotIsLookedAtWholeForWhoNamesNoEvents(t *testing.T) {
	for name, whole := range map[string]func(*healing) error{
		"all slots": func(h *healing) error {
			_, err := h.healer.HealFull(h.ctx, h.grant)
			return err
		},
		"the scrub": func(h *healing) error {
			_, err := postgres.NewLog(h.site.DB).Scrub(h.ctx, h.grant, postgres.ScrubOptions{Rate: 1e9})
			return err
		},
		"a mark": func(h *healing) error {
			h.exec(`INSERT INTO reconciled.dirty (store_id, slot, op) SELECT store_id, slot, 'm' FROM reconciled.leaf`)
			return nil
		},
		"more than a thousand": func(h *healing) error {
			h.exec(`DELETE FROM reconciled.worklist`)
			h.crowd("other ", 1001)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, healer.Options{})
			h.crowd("one ", 1001)
			h.looks(1001, "all are new")
			events := 1001
			for i := range 2 {
				p := product(fmt.Sprint("late ", i), 0)
				p.at = time.Unix(300, 0)
				h.log(p)
				if _, err := postgres.NewLog(h.site.DB).Pin(h.ctx, shop); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					if err := whole(h); err != nil {
						t.Fatal(err)
					}
				}
				events++
			}
			if name == "more than a thousand" {
				events += 1001
			}
			h.looks(events, "the whole slot")
		})
	}
}
