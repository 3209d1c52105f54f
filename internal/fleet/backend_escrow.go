package fleet

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// escrowTypes are those that change what tills hold.
var escrowTypes = []velox.Type{
	velox.StockQuotaGranted, velox.StockQuotaTransferred, velox.StockQuotaReclaimed, velox.StockDeltaApplied, velox.SaleCreated,
}

// escrowKey is whose escrow of what.
type escrowKey struct {
	Product uuid.UUID
	Variant uuid.NullUUID
	Device  uuid.UUID
}

func compareEscrow(a, b escrowKey) int {
	return cmp.Or(slices.Compare(a.Product[:], b.Product[:]), slices.Compare(a.Variant.UUID[:], b.Variant.UUID[:]), slices.Compare(a.Device[:], b.Device[:]))
}

type escrowRow struct {
	id      uuid.UUID
	qty     int64 // thousandths, as all quantities here
	expires *time.Time
}

// escrowOp is one thing that happened to an escrow.
type escrowOp struct {
	Type    velox.Type
	Event   uuid.UUID
	At      time.Time
	Device  uuid.UUID // whose escrow it is of; of a transfer, from whom
	To      uuid.NullUUID
	Product uuid.UUID
	Variant uuid.NullUUID
	Qty     int64
	Request string // names a quota's movement; "" for what is none
	Quota   uuid.NullUUID
	Expires *time.Time
	SoldAt  *time.Time
	Sale    uuid.NullUUID
	Reason  string
	Chosen  bool   // to be projected now
	Spelled string // the device, as the payload spells it
}

func (op escrowOp) movement() uuid.UUID {
	verb := map[velox.Type]string{
		velox.StockQuotaGranted: "grant-", velox.StockQuotaTransferred: "transfer-", velox.StockQuotaReclaimed: "reclaim-",
	}[op.Type]
	return uuid.NewSHA1(quotaSpace, []byte(verb+op.Request))
}

// quotedSQL are the products with quotas that the events have to do with.
const quotedSQL = `SELECT DISTINCT uid(body, product_id) FROM LOG
	JOIN products p ON p.id = uid(body, product_id) AND p.store_id = $1
	WHERE type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed') AND ($2::uuid[] IS NULL
		OR uid(body, product_id) IN (SELECT uid(body, product_id) FROM EVENTS
			UNION SELECT i.product_id FROM EVENTS JOIN sale_items i ON i.sale_id = uid(body, sale_id) WHERE type = 'SaleCreated'))`

// escrowOpsSQL are all things that happened to the escrow of products ($4), in order:
// quotas, and what of sales and deltas is projected.
const escrowOpsSQL = `SELECT type, event_id, created_at, device, target, product, variant, (round(qty, 3) * 1000)::bigint, request, quota, expires, sold_at,
		sale, reason, chosen, spelled FROM (
	SELECT e.*, coalesce(uid(body, from_device_id), uid(body, device_id)) AS device, uid(body, to_device_id) AS target, uid(body, product_id) AS product,
		uid(body, variant_id) AS variant, num(body, qty_granted) + num(body, qty) + num(body, qty_reclaimed) AS qty,
		coalesce(txt(body, request_id), txt(body, quota_id)) AS request, uid(body, quota_id) AS quota,
		CASE WHEN txt(body, expires_at) IS NOT NULL THEN at(body, expires_at) END AS expires, NULL::timestamptz AS sold_at, NULL::uuid AS sale,
		coalesce(txt(body, reason), '') AS reason, $2::uuid[] IS NULL OR event_id = ANY($2) AS chosen, coalesce(txt(body, device_id), '') AS spelled
	FROM LOG WHERE type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed') AND uid(body, product_id) = ANY($4) AND HEEDED
	UNION ALL
	SELECT e.*, device_id, NULL, m.product_id, m.variant_id, m.qty_delta, '', NULL, NULL, NULL, NULL, '', true, ''
	FROM LOG JOIN inventory_movements m ON m.id = uid(body, movement_id) AND m.from_escrow WHERE type = 'StockDeltaApplied' AND m.product_id = ANY($4)
	UNION ALL
	SELECT e.*, device_id, NULL, i.product_id, i.variant_id, i.qty, '', NULL, NULL, s.sold_at, s.id, '', true, ''
	FROM (SELECT DISTINCT ON (uid(body, sale_id)) e.* FROM LOG WHERE type = 'SaleCreated' ORDER BY uid(body, sale_id), created_at, device_id, seq, event_id) e
	JOIN sales s ON s.id = uid(body, sale_id)
	JOIN (SELECT sale_id, product_id, variant_id, sum(qty) AS qty FROM sale_items WHERE product_id = ANY($4) GROUP BY 1, 2, 3) i ON i.sale_id = s.id
) ops ORDER BY created_at, device_id, seq, event_id`

// quotas computes anew what tills hold of the products that the events speak of,
// and what sales took from it, and returns what moved.
func (b *Backend) quotas(ctx context.Context, tx pgx.Tx, store velox.StoreID, events, lost []uuid.UUID) ([]move, error) {
	rows, err := tx.Query(ctx, b.expand(quotedSQL), store, events, lost)
	if err != nil {
		return nil, err
	}
	products, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(products) == 0 {
		return nil, err
	}
	rows, err = tx.Query(ctx, b.expand(escrowOpsSQL), store, events, lost, products)
	if err != nil {
		return nil, err
	}
	ops, err := pgx.CollectRows(rows, pgx.RowToStructByPos[escrowOp])
	if err != nil {
		return nil, err
	}
	marked, err := markedQuotas(ctx, tx, ops)
	if err != nil {
		return nil, err
	}
	e := &escrow{rows: map[escrowKey]*escrowRow{}, takes: map[takeKey]int64{}, marked: marked, done: map[uuid.UUID]bool{}, short: b.opts.wrong(QuotasShortened)}
	for _, op := range ops {
		e.apply(op)
	}
	return e.write(ctx, tx, store, products)
}

// markedQuotas tells which quotas have been projected before.
func markedQuotas(ctx context.Context, tx pgx.Tx, ops []escrowOp) (map[uuid.UUID]bool, error) {
	var candidates []uuid.UUID
	for _, op := range ops {
		if op.Request != "" {
			candidates = append(candidates, op.movement())
		}
	}
	rows, err := tx.Query(ctx, `SELECT id FROM inventory_movements WHERE id = ANY($1)`, candidates)
	if err != nil {
		return nil, err
	}
	marked := map[uuid.UUID]bool{}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		marked[id] = true
		return nil
	})
	return marked, err
}

// escrow is what a store's tills hold, as it changes.
type escrow struct {
	rows   map[escrowKey]*escrowRow
	takes  map[takeKey]int64
	moves  []quotaMove
	marked map[uuid.UUID]bool // quotas that were projected before
	done   map[uuid.UUID]bool // those of this time
	short  bool               // as QuotasShortened
}

type takeKey struct {
	sale, product uuid.UUID
	variant       uuid.NullUUID
}

// quotaMove is a movement that a quota leaves.
type quotaMove struct {
	escrowOp
	movementType string
	qty          int64
	note         *string
	ref          map[string]string
	placed       bool // in the default warehouse
}

func (e *escrow) apply(op escrowOp) {
	key := escrowKey{op.Product, op.Variant, op.Device}
	held := e.rows[key]
	switch op.Type {
	case velox.SaleCreated:
		if held != nil && (held.expires == nil && !e.short || held.expires != nil && held.expires.After(*op.SoldAt)) {
			take := min(op.Qty, held.qty)
			held.qty -= take
			e.takes[takeKey{op.Sale.UUID, op.Product, op.Variant}] = take
		}
	case velox.StockDeltaApplied:
		if held != nil {
			held.qty = max(0, held.qty+op.Qty)
		}
	default:
		if id := op.movement(); !e.done[id] && (op.Chosen || e.marked[id]) {
			e.quota(op, key, held)
		}
	}
}

func (e *escrow) quota(op escrowOp, key escrowKey, held *escrowRow) {
	if op.Type != velox.StockQuotaGranted && (held == nil || held.qty < op.Qty) {
		return // not enough: it waits
	}
	m := quotaMove{escrowOp: op, movementType: "transfer_out", ref: map[string]string{"request_id": op.Request}}
	switch op.Type {
	case velox.StockQuotaGranted:
		row := e.row(key, op.Quota.UUID)
		if row == nil {
			return
		}
		row.qty += op.Qty
		if op.Expires != nil {
			row.expires = op.Expires
		}
		note := "Escrow Grant to device " + op.Spelled
		m.qty, m.note, m.placed, m.ref["quota_id"] = -op.Qty, &note, true, op.Quota.UUID.String()
	case velox.StockQuotaTransferred:
		row := e.row(escrowKey{op.Product, op.Variant, op.To.UUID}, op.movement())
		if row == nil {
			return
		}
		held.qty -= op.Qty
		row.qty += op.Qty
		m.ref["from"], m.ref["to"] = op.Device.String(), op.To.UUID.String()
	default:
		held.qty -= op.Qty
		note := op.Reason
		if note == "" {
			note = "Escrow Reclaimed from " + op.Spelled
		}
		m.movementType, m.qty, m.note, m.placed, m.ref["device_id"] = "transfer_in", op.Qty, &note, true, op.Spelled
	}
	e.done[op.movement()] = true
	e.moves = append(e.moves, m)
}

// row is the escrow's row; nil where the real backend would run into another
// variant's.
func (e *escrow) row(key escrowKey, id uuid.UUID) *escrowRow {
	if row := e.rows[key]; row != nil {
		return row
	}
	for other := range e.rows {
		if e.short && other.Product == key.Product && other.Device == key.Device {
			return nil
		}
	}
	e.rows[key] = &escrowRow{id: id}
	return e.rows[key]
}

// write brings the tables to what was computed.
func (e *escrow) write(ctx context.Context, tx pgx.Tx, store velox.StoreID, products []uuid.UUID) ([]move, error) {
	var moved []move
	for _, m := range e.moves {
		if e.marked[m.movement()] {
			continue
		}
		var warehouse uuid.NullUUID
		var qty string
		err := tx.QueryRow(ctx, `INSERT INTO inventory_movements `+moveColumns+`
			SELECT $2, $1, $3, $4, $5::bigint / 1000.0, 0, 0, $6, $7, $8, $9,
				CASE WHEN $10 THEN (SELECT w.id FROM warehouses w WHERE w.store_id = $1 AND w.is_active ORDER BY w.is_default DESC, w.name LIMIT 1) END, false
			RETURNING warehouse_id, qty_delta::text`,
			store, m.movement(), m.Product, m.movementType, m.qty, m.note, m.ref, m.At, m.Variant, m.placed).Scan(&warehouse, &qty)
		if err != nil {
			return nil, err
		}
		moved = append(moved, move{warehouse, m.Product, m.Variant, qty})
	}
	for _, key := range slices.SortedFunc(maps.Keys(e.rows), compareEscrow) { // side by side, all lock in one order
		row := e.rows[key]
		if _, err := tx.Exec(ctx, `WITH there AS (UPDATE stock_escrow SET qty_granted = $6::bigint / 1000.0, expires_at = $7, last_updated_at = now()
				WHERE store_id = $1 AND product_id = $2 AND device_id = $3 AND variant_id IS NOT DISTINCT FROM $4 RETURNING id)
			INSERT INTO stock_escrow (id, store_id, product_id, device_id, variant_id, qty_granted, expires_at)
			SELECT $5, $1, $2, $3, $4, $6::bigint / 1000.0, $7 WHERE NOT EXISTS (SELECT FROM there)`,
			store, key.Product, key.Device, key.Variant, row.id, row.qty, row.expires); err != nil {
			return nil, err
		}
	}
	split, err := e.splitSales(ctx, tx, store, products)
	return append(moved, split...), err
}

// splitSales lets the movements of sales say what came from escrow.
func (e *escrow) splitSales(ctx context.Context, tx pgx.Tx, store velox.StoreID, products []uuid.UUID) ([]move, error) {
	rows, err := tx.Query(ctx, `SELECT (ref->>'sale_id')::uuid, product_id, variant_id, (coalesce(-sum(qty_delta) FILTER (WHERE from_escrow), 0) * 1000)::bigint
		FROM inventory_movements WHERE store_id = $1 AND product_id = ANY($2) AND movement_type = 'sold' AND ref->>'sale_id' IS NOT NULL GROUP BY 1, 2, 3`,
		store, products)
	if err != nil {
		return nil, err
	}
	var moved []move
	var sales, wares []uuid.UUID
	var variants []*uuid.UUID
	var takes []int64
	var key takeKey
	var taken int64
	_, err = pgx.ForEachRow(rows, []any{&key.sale, &key.product, &key.variant, &taken}, func() error {
		if taken == e.takes[key] {
			return nil
		}
		var variant *uuid.UUID
		if key.variant.Valid {
			variant = &uuid.UUID{}
			*variant = key.variant.UUID
		}
		sales, wares, variants, takes = append(sales, key.sale), append(wares, key.product), append(variants, variant), append(takes, e.takes[key])
		moved = append(moved, move{Product: key.product, Variant: key.variant, Qty: "0"})
		return nil
	})
	if err != nil || len(sales) == 0 {
		return nil, err
	}
	_, err = tx.Exec(ctx, `WITH wrong AS (SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[]) AS w (sale, product, variant, take)),
		old AS (DELETE FROM inventory_movements m USING wrong w WHERE m.store_id = $1 AND m.product_id = w.product AND m.ref->>'sale_id' = w.sale::text
			AND m.variant_id IS NOT DISTINCT FROM w.variant AND m.movement_type = 'sold'
			RETURNING m.store_id, m.product_id, m.variant_id, m.warehouse_id, m.ref, m.happened_at, m.qty_delta, w.sale, w.take / 1000.0 AS take),
		sold AS (SELECT store_id, product_id, variant_id, warehouse_id, ref, happened_at, sale, take, sum(qty_delta) AS qty FROM old GROUP BY 1, 2, 3, 4, 5, 6, 7, 8)
		INSERT INTO inventory_movements `+moveColumns+`
		SELECT gen_random_uuid(), store_id, product_id, 'sold', part.qty, 0, 0, 'Venta ' || sale || part.remark, ref, happened_at, variant_id, warehouse_id, part.escrow
		FROM sold, LATERAL (VALUES (-take, true, ' (Escrow)'), (sold.qty + take, false, '')) AS part (qty, escrow, remark)
		WHERE part.qty <> 0`, store, sales, wares, variants, takes)
	return moved, err
}
