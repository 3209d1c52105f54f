package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Conn is a pgx connection, pool or transaction.
type Conn interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Reference is what a shop has that no event carries.
type Reference struct {
	Store      velox.StoreID
	Name       string
	CreatedAt  time.Time
	Profiles   []uuid.UUID // users; the first is the owner
	Warehouses []uuid.UUID // the first is the default
	Series     []uuid.UUID // invoice series
	Products   []ReferenceProduct
}

// ReferenceProduct was made online, and so without an event, with its variants.
type ReferenceProduct struct {
	ID       uuid.UUID
	Name     string
	Variants []uuid.UUID
}

// Reference is what the shop has from the start.
func (s *Shop) Reference() Reference { return s.ref }

func (s *Shop) newReference() Reference {
	r := Reference{Store: s.opts.Store, Name: s.opts.Name, CreatedAt: s.opts.Start}
	for range 3 {
		r.Profiles = append(r.Profiles, s.id())
	}
	for range 2 {
		r.Warehouses = append(r.Warehouses, s.id())
	}
	r.Series = append(r.Series, s.id())
	for _, name := range []string{"Franela", "Gorra"} {
		p := ReferenceProduct{ID: s.id(), Name: name}
		for range 2 {
			p.Variants = append(p.Variants, s.id())
		}
		r.Products = append(r.Products, p)
	}
	return r
}

// W is the warehouse that stock is booked in: the candidate if the store has it,
// else the default; Nil when there is none.
func (r Reference) W(candidate string) uuid.UUID {
	if id, err := uuid.Parse(candidate); err == nil {
		for _, w := range r.Warehouses {
			if w == id {
				return w
			}
		}
	}
	if len(r.Warehouses) == 0 {
		return uuid.Nil
	}
	return r.Warehouses[0]
}

// Insert writes the rows. Those that are there already stay.
func (r Reference) Insert(ctx context.Context, db Conn) error {
	var batch pgx.Batch
	batch.Queue(`INSERT INTO stores (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, r.Store, r.Name, r.CreatedAt)
	for i, id := range r.Profiles {
		batch.Queue(`INSERT INTO profiles (id, full_name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			id, fmt.Sprintf("Usuario %d", i+1), r.CreatedAt)
	}
	for i, id := range r.Warehouses {
		batch.Queue(`INSERT INTO warehouses (id, store_id, name, code, is_default) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			id, r.Store, fmt.Sprintf("Almacén %d", i+1), fmt.Sprintf("W%d", i+1), i == 0)
	}
	for i, id := range r.Series {
		batch.Queue(`INSERT INTO invoice_series (id, store_id, series_code, name, prefix, created_at) VALUES ($1, $2, $3, $4, 'FAC', $5) ON CONFLICT DO NOTHING`,
			id, r.Store, string(rune('A'+i)), "Facturas", r.CreatedAt)
	}
	for _, p := range r.Products {
		batch.Queue(`INSERT INTO products (id, store_id, name, price_bs, price_usd, low_stock_threshold, created_at, updated_at)
			VALUES ($1, $2, $3, 480, 12, 5, $4, $4) ON CONFLICT DO NOTHING`, p.ID, r.Store, p.Name, r.CreatedAt)
		for i, id := range p.Variants {
			batch.Queue(`INSERT INTO product_variants (id, product_id, variant_type, variant_value) VALUES ($1, $2, 'talla', $3) ON CONFLICT DO NOTHING`,
				id, p.ID, string("SML"[i]))
		}
	}
	return atomically(ctx, db, "insert reference rows", func(tx pgx.Tx) error {
		return tx.SendBatch(ctx, &batch).Close()
	})
}

// atomically runs work in a transaction; doing names it in the error.
func atomically(ctx context.Context, db Conn, doing string, work func(pgx.Tx) error) error {
	if err := pgx.BeginFunc(ctx, db, work); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
