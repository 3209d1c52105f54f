package postgres

// A till whose clock has died makes thousands of events in one slot. To look at all of
// them for each one that comes, or whose row is touched, costs seconds: in a slot of more
// than a thousand events the healer's list names those that it is about.
//
// A list of events is good for the stamp that it was written with. Who puts a slot on the
// list and knows no events moves the stamp alone, and so means all of them.

// crowded is how many events a slot may hold that is looked at whole, and how many are
// named of one that is not.
const crowded = `1000`

// enlistFound puts slots on the healer's list, of the store $1. It is the end of a
// statement WITH found (slot, event_id); no event means all of the slot.
const enlistFound = `INSERT INTO reconciled.worklist AS w (consumer, store_id, slot, events, events_stamp)
	SELECT '` + healerConsumer + `', $1::uuid, found.slot,
		CASE WHEN min(l.count) > ` + crowded + ` AND count(*) = count(found.event_id) AND count(*) <= ` + crowded + `
			THEN array_agg(found.event_id) END, 1
	FROM found LEFT JOIN reconciled.leaf l ON l.store_id = $1 AND l.slot = found.slot
	GROUP BY found.slot ORDER BY found.slot -- as others lock them
	ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now(), events_stamp = w.stamp + 1,
		events = CASE WHEN w.events_stamp = w.stamp AND cardinality(w.events) + cardinality(excluded.events) <= ` + crowded + `
			THEN w.events || excluded.events END`
