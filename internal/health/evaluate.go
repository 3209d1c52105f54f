package health

import "fmt"

// rule turns one number into a reason: from degraded on, critical beyond a limit.
type rule struct {
	code     string
	value    int64
	degraded int64 // more than this is degraded
	critical int64 // more than this is critical; negative: never
	es, en   string
}

const never = -1

// Evaluate judges a snapshot. A store is as bad as its gravest reason.
func Evaluate(s Snapshot, t Thresholds) Report {
	report := Report{
		OverallHealth: Healthy, Metrics: s.Metrics, StoreID: s.Store, Timestamp: s.At, More: s.More,
		Reasons: []Reason{}, Details: s.Details, LastReconcile: s.LastReconcile, LastHeal: s.LastHeal,
	}
	if report.Details == nil {
		report.Details = []Affected{}
	}
	for _, r := range rules(s, t) {
		level := Healthy
		switch {
		case r.critical >= 0 && r.value > r.critical:
			level = Critical
		case r.value > r.degraded:
			level = Degraded
		default:
			continue
		}
		report.add(Reason{Code: r.code, Level: level, Value: r.value, ES: fmt.Sprintf(r.es, r.value), EN: fmt.Sprintf(r.en, r.value)})
	}
	if !s.Central {
		report.judgeRemote(s)
	}
	return report
}

func (r *Report) add(reason Reason) {
	r.Reasons = append(r.Reasons, reason)
	if reason.Level.rank() > r.OverallHealth.rank() {
		r.OverallHealth = reason.Level
	}
}

func rules(s Snapshot, t Thresholds) []rule {
	return []rule{
		{
			"FISCAL_DUPLICATE", s.More.FiscalDuplicateCount, 0, 0,
			"%d números fiscales repetidos en ventas no anuladas: avise a legal/contabilidad (runbook 2)",
			"%d fiscal numbers are used twice by sales that are not voided: call legal (runbook 2)",
		},
		{
			"EVENT_TAMPERED", s.More.EventTamperedCount - s.More.EventDeletedCount, 0, 0,
			"%d indicios de que el registro de eventos fue alterado fuera del POS: avise a soporte",
			"%d signs that the event log was altered behind the POS: call support",
		},
		{
			"EVENT_DELETED", s.More.EventDeletedCount, 0, never,
			"%d eventos fueron borrados del registro sin ser una purga del POS",
			"%d events were deleted from the log and are no purge of the POS",
		},
		{
			"DELETIONS_HELD", s.More.DeletionsHeldCount, 0, never,
			"%d eventos borrados no vuelven hasta que una persona lo diga: reconciled event restore",
			"%d deleted events do not come back until a person says so: reconciled event restore",
		},
		{
			"PROJECTION_GAP", s.Metrics.ProjectionGapCount, 0, t.CriticalGaps,
			"%d eventos sin sus filas de lectura, se están curando",
			"%d events without their read-model rows, being healed",
		},
		{
			"NEGATIVE_STOCK", s.Metrics.NegativeStockCount, 0, t.CriticalNegativeStock,
			"%d productos con existencia negativa: haga un ajuste de inventario",
			"%d products with stock below zero: make a stock adjustment",
		},
		{
			"OUTBOX_DEAD", s.More.OutboxDead, 0, t.CriticalOutboxDead,
			"%d entradas muertas en outbox_entries", "%d dead entries in outbox_entries",
		},
		{
			"CONFLICT_RATE", s.More.ConflictRate, 10, t.CriticalConflictRate,
			"%d conflictos resueltos por el POS en la última hora", "%d conflicts resolved by the POS in the last hour",
		},
		{
			"EVENT_CONFLICT", s.More.ConflictCount, 0, never,
			"%d eventos con dos contenidos distintos: una persona debe decidir",
			"%d events with two different contents: a person must decide",
		},
		{
			"POISON", s.More.PoisonCount, 0, never,
			"%d eventos malformados en cuarentena", "%d malformed events in quarantine",
		},
		{
			"STOCK_DIVERGENCE", s.Metrics.StockDivergenceCount, 0, never,
			"%d existencias no coinciden con sus movimientos", "%d stock totals do not match their movements",
		},
		{
			"GAP_BLOCKED", s.More.BlockedGapCount, 0, never,
			"%d eventos esperan datos de referencia que faltan", "%d events lack reference data",
		},
		{
			"OUTBOX_BACKLOG", s.More.OutboxPending, 10, never,
			"%d entradas pendientes en outbox_entries", "%d pending entries in outbox_entries",
		},
	}
}

// judgeRemote adds what a store's ties to central say. An unknown verdict is a
// reason by itself: nothing may look fine that was not compared.
func (r *Report) judgeRemote(s Snapshot) {
	if !s.Metrics.RemoteReachable {
		r.add(Reason{
			Code: "REMOTE_UNREACHABLE", Level: Degraded, Value: 1,
			ES: "central no responde o no está listo: " + s.RemoteError, EN: "central does not answer or is not ready: " + s.RemoteError,
		})
	}
	if s.More.RemoteLatencyMs > 2000 {
		level := Degraded
		if s.More.RemoteLatencyMs > 5000 {
			level = Critical
		}
		r.add(Reason{
			Code: "REMOTE_SLOW", Level: level, Value: s.More.RemoteLatencyMs,
			ES: fmt.Sprintf("central tarda %d ms", s.More.RemoteLatencyMs), EN: fmt.Sprintf("central takes %d ms", s.More.RemoteLatencyMs),
		})
	}
	switch s.LastReconcile.Verdict {
	case "unknown":
		r.add(Reason{
			Code: "NOT_COMPARED", Level: Degraded, Value: s.Metrics.EventLagCount,
			ES: "la última comparación con central no terminó: " + orNever(s.LastReconcile.Reason, "aún no hubo ninguna"),
			EN: "the last comparison with central did not finish: " + orNever(s.LastReconcile.Reason, "there was none yet"),
		})
	case "differs":
		r.add(Reason{
			Code: "DIFFERS", Level: Degraded, Value: s.More.ConflictCount,
			ES: "la tienda y central difieren en eventos conocidos", EN: "store and central differ in known events",
		})
	}
}

func orNever(reason, otherwise string) string {
	if reason == "" {
		return otherwise
	}
	return reason
}
