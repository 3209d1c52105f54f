package postgres

import (
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// kinds are the entities that several events write, and those events.
var kinds = []struct {
	table  projection.Table
	member string
	types  []velox.Type
}{
	{projection.Products, "product_id", []velox.Type{velox.ProductCreated, velox.ProductUpdated, velox.ProductDeactivated, velox.PriceChanged}},
	{projection.Customers, "customer_id", []velox.Type{velox.CustomerCreated, velox.CustomerUpdated}},
}

// history is what the log says of an entity.
type history struct {
	events  []projection.Event
	written map[uuid.UUID]velox.Millis // when each was projected, as far as is written down
}

// pricesAtMost bounds what is read of a product that gets a new price every day. Each
// change sets both prices, so that of many the newest matter, and those that came last: the
// backend looks at no time, and leaves the newest of what came last.
const pricesAtMost = 50

// histories reads the events of entities.
func (r *factReader) histories(member string, types []velox.Type, ids []uuid.UUID) map[uuid.UUID]history {
	all := map[uuid.UUID]history{}
	if len(ids) == 0 || r.err != nil {
		return all
	}
	r.failed = "history by " + member
	rows, err := r.q.Query(r.ctx, `SELECT * FROM (`+saying(eventColumns+`, least(row_number() OVER (PARTITION BY asked.id, e.type ORDER BY e.created_at DESC),
				row_number() OVER (PARTITION BY asked.id, e.type ORDER BY e.received_at DESC, e.created_at DESC)) AS place,
			asked.id, reconciled.ms(greatest(
			(SELECT max(o.processed_at) FROM public.outbox_entries o WHERE o.event_id IN (e.event_id::text, upper(e.event_id::text)) AND o.target = 'projection'),
			(SELECT max(h.healed_at) FROM reconciled.heal_log h WHERE h.store_id = e.store_id AND h.event_id = e.event_id AND h.strategy = 'native')))`,
		member, `e.type = ANY($3)`)+`) said WHERE type <> 'PriceChanged' OR place <= $4`, r.store, ids, types, pricesAtMost)
	if err != nil {
		r.err = err
		return all
	}
	_, r.err = pgx.CollectRows(rows, func(found pgx.CollectableRow) (struct{}, error) {
		var (
			place int64
			id    uuid.UUID
			at    *velox.Millis
		)
		e, err := scanEvent(alongside{found, []any{&place, &id, &at}})
		h := all[id]
		if h.written == nil {
			h.written = map[uuid.UUID]velox.Millis{}
		}
		h.events = append(h.events, projection.Event{Event: e})
		if at != nil && *at != velox.MaxMillis {
			h.written[e.ID] = *at
		}
		all[id] = h
		return struct{}{}, err
	})
	return all
}

// entities reads products and customers that are missing, or differ from an event.
func (r *factReader) entities() {
	r.facts.Entities = map[projection.Ref]*projection.Entity{}
	for _, kind := range kinds {
		asked := idSet{}
		for _, a := range r.asks {
			if a.Row == nil || a.Row.Table != kind.table {
				continue
			}
			id := a.Row.Values["id"].(uuid.UUID)
			if _, differs := r.facts.Differs[a.Event.ID]; differs || !r.exists(kind.table, id) {
				asked[id] = true
			}
		}
		if len(asked) == 0 {
			continue
		}
		ids := listed(asked)
		histories := r.histories(kind.member, kind.types, ids)
		for id, h := range histories {
			r.facts.Entities[projection.Ref{Table: kind.table, ID: id}] = &projection.Entity{History: h.events, Writing: projection.Writing{Written: h.written}}
		}
		var (
			id      uuid.UUID
			row     []byte
			updated velox.Millis
			fresh   bool
		)
		r.each(string(kind.table)+" that differ", `SELECT id, to_jsonb(t)::text, reconciled.ms(updated_at),
				coalesce(isfinite(updated_at) AND updated_at <= created_at + interval '1 second', false)
			FROM public.`+string(kind.table)+` t WHERE t.store_id = $1 AND t.id = ANY($2)`,
			[]any{r.store, ids}, []any{&id, &row, &updated, &fresh}, func() {
				ref := projection.Ref{Table: kind.table, ID: id}
				entity := r.facts.Entities[ref]
				if entity == nil {
					entity = &projection.Entity{}
					r.facts.Entities[ref] = entity
				}
				if err := json.Unmarshal(row, &entity.Columns); err != nil {
					r.err = err
				}
				entity.UpdatedAt, entity.Fresh = updated, fresh
			})
	}
}

// recipes reads the recipes of products, and the events that give them.
func (r *factReader) recipes() {
	r.facts.Recipes = map[uuid.UUID]projection.Recipe{}
	products := r.ids(projection.RecipeOf)
	if len(products) == 0 {
		return
	}
	histories := r.histories("product_id", []velox.Type{velox.RecipeIngredientsUpdated}, products)
	if r.facts.Claimants == nil {
		r.facts.Claimants = map[projection.Ref][]projection.Event{}
	}
	for id, h := range histories {
		r.facts.Claimants[projection.Ref{Table: projection.RecipeOf, ID: id}] = h.events
		r.facts.Recipes[id] = projection.Recipe{Writing: projection.Writing{UpdatedAt: velox.MinMillis, Written: h.written}}
	}
	var (
		product uuid.UUID
		line    projection.Ingredient
		at      velox.Millis
	)
	r.each("recipes", `SELECT recipe_product_id, ingredient_product_id, qty::text, coalesce(unit, ''), reconciled.ms(updated_at)
		FROM public.recipe_ingredients WHERE recipe_product_id = ANY($1) ORDER BY id`,
		[]any{products}, []any{&product, &line.Product, &line.Qty, &line.Unit, &at}, func() {
			recipe := r.facts.Recipes[product]
			recipe.Lines, recipe.UpdatedAt = append(recipe.Lines, line), max(recipe.UpdatedAt, at)
			r.facts.Recipes[product] = recipe
		})
	r.each("deleted ingredients", `SELECT parent_id, reconciled.ms(max(deleted_at)) FROM reconciled.deleted_row
		WHERE store_id = $1 AND table_name = 'recipe_ingredients' AND parent_id = ANY($2) GROUP BY parent_id`,
		[]any{r.store, products}, []any{&product, &at}, func() {
			recipe := r.facts.Recipes[product]
			recipe.DeletedAt = at
			r.facts.Recipes[product] = recipe
		})
}
