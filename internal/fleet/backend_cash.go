package fleet

const projectOpened = `WITH rows AS (INSERT INTO cash_sessions (id, store_id, opened_by, opened_at, opening_amount_bs, opening_amount_usd, note)
	SELECT DISTINCT ON (1) uid(body, session_id), store_id, actor, at(body, opened_at), num(body, opening_amount_bs), num(body, opening_amount_usd), txt(body, note)
	FROM EVENTS WHERE type = 'CashSessionOpened' AND uid(body, session_id) IS NOT NULL
		AND NOT EXISTS (SELECT FROM cash_sessions s WHERE s.id = uid(body, session_id))
	ORDER BY 1, created_at, device_id, seq, event_id)` + nothingMoved

// The newest close in the log wins, even when an older one comes later.
const projectClosed = `WITH newest AS (
		SELECT DISTINCT ON (1) uid(body, session_id) AS session, e.* FROM EVENTS WHERE type = 'CashSessionClosed'
		ORDER BY 1, created_at DESC, device_id DESC, seq DESC, event_id DESC),
	rows AS (UPDATE cash_sessions s SET closed_at = at(body, closed_at), closed_by = actor, updated_at = now(),
			expected = nullif(body->'expected', 'null'), counted = nullif(body->'counted', 'null'), note = coalesce(txt(body, note), s.note)
		FROM newest e WHERE s.id = session AND s.store_id = $1 AND (NOT {D14} OR e.created_at >= s.updated_at) AND NOT EXISTS (
			SELECT FROM events later WHERE later.store_id = $1 AND later.type = 'CashSessionClosed' AND later.created_at > e.created_at
				AND coalesce(nullif(later.delta_payload, '{}'), later.payload)->>'session_id' = e.body->>'session_id'))` + nothingMoved

const (
	projectLedger = `WITH rows AS (INSERT INTO cash_ledger_entries (id, store_id, device_id, seq, entry_type, amount_bs, amount_usd, currency,
			cash_session_id, sold_at, event_id, request_id, metadata)
		SELECT uid(body, entry_id), store_id, device_id, seq, txt(body, entry_type), num(body, amount_bs), num(body, amount_usd),
			coalesce(txt(body, currency), 'BS'), uid(body, cash_session_id), at(body, sold_at), event_id, uid(body, request_id), nullif(body->'metadata', 'null')
		FROM EVENTS WHERE type = 'CashLedgerEntryCreated' AND uid(body, entry_id) IS NOT NULL AND HEEDED
			AND (NOT {D36} OR uid(body, cash_session_id) IS NOT NULL)
		ORDER BY created_at, device_id, seq, event_id ON CONFLICT DO NOTHING)` + nothingMoved

	// An entry may be there before its session.
	projectCounters = `WITH entry AS (
			SELECT cash_session_id AS session, part.currency, abs(amount) AS amount,
				coalesce(entry_type, '') = 'expense' OR coalesce(entry_type, '') NOT IN ('sale', 'income', 'initial_balance') AND amount < 0 AS gone
			FROM cash_ledger_entries, LATERAL (VALUES ('bs', amount_bs), ('usd', amount_usd)) AS part (currency, amount)
			WHERE store_id = $1 AND cash_session_id IN (SELECT coalesce(uid(body, cash_session_id), uid(body, session_id)) FROM EVENTS
				WHERE type IN ('CashSessionOpened', 'CashLedgerEntryCreated'))),
		sums AS (
			SELECT session, coalesce(sum(amount) FILTER (WHERE currency = 'bs' AND NOT gone), 0) AS p_bs,
				coalesce(sum(amount) FILTER (WHERE currency = 'bs' AND gone), 0) AS n_bs,
				coalesce(sum(amount) FILTER (WHERE currency = 'usd' AND NOT gone), 0) AS p_usd,
				coalesce(sum(amount) FILTER (WHERE currency = 'usd' AND gone), 0) AS n_usd
			FROM entry GROUP BY 1),
		rows AS (UPDATE cash_sessions s SET ledger_p_bs = p_bs, ledger_n_bs = n_bs, ledger_p_usd = p_usd, ledger_n_usd = n_usd, updated_at = now()
			FROM sums WHERE s.id = session AND s.store_id = $1
				AND (ledger_p_bs, ledger_n_bs, ledger_p_usd, ledger_n_usd) IS DISTINCT FROM (p_bs, n_bs, p_usd, n_usd))` + nothingMoved
)
