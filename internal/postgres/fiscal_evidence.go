package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// FiscalEvidence is all that this database knows of a number that more than one sale
// has. Rows are whole, as Postgres prints them.
type FiscalEvidence struct {
	Series    uuid.UUID       `json:"series_id"`
	Code      string          `json:"series"`
	SeriesRow json.RawMessage `json:"series_row"` // of invoice_series; null: not known here
	Number    string          `json:"number"`
	Sales     []SaleEvidence  `json:"sales"`
}

// SaleEvidence is what is known of one of its sales.
type SaleEvidence struct {
	FiscalSale
	StoreName string            `json:"store"`
	Voids     []string          `json:"void_evidence"`
	Row       json.RawMessage   `json:"row"`             // of sales; null: it has none here
	Customer  json.RawMessage   `json:"customer"`        // of customers
	Seller    json.RawMessage   `json:"seller"`          // id and name, of profiles
	Invoices  []json.RawMessage `json:"fiscal_invoices"` // rows
	Events    []EventEvidence   `json:"events"`          // that name the sale, the oldest first
	Ranges    []json.RawMessage `json:"ranges"`          // of fiscal_sequence_ranges, granted to the devices of these events
}

// EventEvidence is an event as it is in this database's log.
type EventEvidence struct {
	ID         uuid.UUID       `json:"event_id"`
	Type       velox.Type      `json:"type"`
	Device     uuid.UUID       `json:"device_id"`
	Seq        int64           `json:"seq"`
	Actor      uuid.NullUUID   `json:"actor_user_id"`
	ActorRole  string          `json:"actor_role"`
	Created    string          `json:"created_at"`  // by the device's clock, which may be far off
	Received   string          `json:"received_at"` // by this installation
	Projection string          `json:"projection_status"`
	Conflict   string          `json:"conflict_status"`
	Hash       string          `json:"full_payload_hash"`
	Computed   string          `json:"computed_hash"` // of what the event said, now
	Verdict    string          `json:"hash_verdict"`  // a velox.Integrity
	Said       json.RawMessage `json:"said"`
	Payload    json.RawMessage `json:"payload"` // as the backend has it, which may have replaced it
}

// Evidence reads all there is about numbers that more than one sale has which is not
// voided, or, resolved, of which voids left one sale or none; at most limit of them, at one
// moment; and counts all.
func (f *Fiscal) Evidence(ctx context.Context, scope FiscalScope, resolved bool, limit int) (list []FiscalEvidence, total int, err error) {
	which := sharedNumbers
	if resolved {
		which = resolvedNumbers
	}
	err = f.read(ctx, func(tx pgx.Tx) error {
		numbers, n, err := findNumbers(ctx, tx, which, scope, limit)
		if err != nil {
			return err
		}
		total = n
		for _, number := range numbers {
			e := FiscalEvidence{Series: number.Series, Code: number.Code, Number: number.Number}
			err := tx.QueryRow(ctx, `SELECT (SELECT to_jsonb(i) FROM public.invoice_series i WHERE i.id = $1)`, number.Series).Scan((*[]byte)(&e.SeriesRow))
			if err != nil {
				return fmt.Errorf("read series %s: %w", number.Series, err)
			}
			for _, sale := range number.Sales {
				one, err := saleEvidence(ctx, tx, sale)
				if err != nil {
					return fmt.Errorf("read sale %s: %w", sale, err)
				}
				e.Sales = append(e.Sales, one)
			}
			list = append(list, e)
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read fiscal evidence: %w", err)
	}
	return list, total, nil
}

// iso prints an instant as JSON has it; the infinities are no time.Time.
func iso(column string) string { return `to_jsonb(` + column + `) #>> '{}'` }

func saleEvidence(ctx context.Context, tx pgx.Tx, sale FiscalSale) (e SaleEvidence, err error) {
	e = SaleEvidence{FiscalSale: sale, Voids: []string{}}
	var voided *string
	err = tx.QueryRow(ctx, `
		SELECT coalesce((SELECT name FROM public.stores WHERE id = $1), ''), to_jsonb(s), `+iso("s.voided_at")+`, to_jsonb(c),
			(SELECT jsonb_build_object('id', p.id, 'full_name', to_jsonb(p) -> 'full_name') FROM public.profiles p WHERE p.id = s.sold_by_user_id)
		FROM (SELECT) AS one
		LEFT JOIN public.sales s ON s.store_id = $1 AND s.id = $2
		LEFT JOIN public.customers c ON c.id = s.customer_id AND c.store_id = $1`, sale.Store, sale.Sale).
		Scan(&e.StoreName, (*[]byte)(&e.Row), &voided, (*[]byte)(&e.Customer), (*[]byte)(&e.Seller))
	if err != nil {
		return e, fmt.Errorf("read its rows: %w", err)
	}
	if voided != nil {
		e.Voids = append(e.Voids, "sales.voided_at "+*voided)
	}
	e.Invoices, err = taken[json.RawMessage](ctx, tx, `SELECT to_jsonb(f) FROM public.fiscal_invoices f
		WHERE f.store_id = $1 AND f.sale_id = $2 ORDER BY f.created_at, f.id`, sale.Store, sale.Sale)
	if err != nil {
		return e, fmt.Errorf("read its fiscal invoices: %w", err)
	}
	if e.Events, err = saleEvents(ctx, tx, sale.SaleRef); err != nil {
		return e, err
	}
	var devices []string
	for _, event := range e.Events {
		if event.Type == velox.SaleVoided {
			e.Voids = append(e.Voids, "SaleVoided "+event.ID.String())
		}
		if event.Device != velox.ServerDevice && !slices.Contains(devices, event.Device.String()) {
			devices = append(devices, event.Device.String())
		}
	}
	e.Ranges, err = taken[json.RawMessage](ctx, tx, `SELECT to_jsonb(r) FROM public.fiscal_sequence_ranges r
		WHERE r.store_id = $1 AND lower(r.device_id) = ANY($2) ORDER BY r.device_id, r.series_id, r.range_start`, sale.Store, devices)
	if err != nil {
		return e, fmt.Errorf("read its devices' ranges: %w", err)
	}
	return e, nil
}

// saleEvents reads the events that name a sale, as its SaleCreated spells it or as
// Postgres does.
func saleEvents(ctx context.Context, tx pgx.Tx, sale SaleRef) ([]EventEvidence, error) {
	rows, err := tx.Query(ctx, `SELECT `+eventColumns+`, `+iso("e.created_at")+`, `+iso("e.received_at")+`, e.projection_status FROM `+eventTables+`
		WHERE e.store_id = $1 AND (e.event_id = $2 OR e.payload @> ANY(ARRAY(
			SELECT jsonb_build_object('sale_id', spelling) FROM (SELECT $3::text UNION
				SELECT coalesce(o.delta_payload ->> 'sale_id', o.payload ->> 'sale_id') FROM public.events o WHERE o.event_id = $2) AS s (spelling)
			WHERE spelling <> '')))
		ORDER BY e.created_at, e.event_id`, sale.Store, sale.Event, sale.Sale)
	if err != nil {
		return nil, fmt.Errorf("read its events: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (EventEvidence, error) {
		var created, received, projection string
		e, err := scanEvent(alongside{row, []any{&created, &received, &projection}})
		if err != nil {
			return EventEvidence{}, err
		}
		computed, err := velox.PayloadHash(e.Said())
		return EventEvidence{
			ID: e.ID, Type: e.Type, Device: e.Device, Seq: e.Seq, Actor: e.Actor, ActorRole: e.ActorRole,
			Created: created, Received: received, Projection: projection, Conflict: e.ConflictStatus,
			Hash: e.Hash, Computed: computed, Verdict: e.Verify().String(), Said: e.Said(), Payload: e.Payload,
		}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read its events: %w", err)
	}
	return list, nil
}
