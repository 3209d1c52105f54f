package health

import (
	"fmt"
	"strings"
	"time"
)

// rule turns one number into a reason, beyond its limits.
type rule struct {
	code   string
	value  int64
	limit  Limit
	es, en string
}

// Limits of what is not configured: bad from the first on.
var (
	noneIsFine = Limit{0, Never}
	noneAtAll  = Limit{0, 0}
)

// anHour, in seconds, is how long an event may wait for what another one brings: by then
// a few rounds with central have had the time to bring it.
var anHour = Limit{3600, Never}

// Evaluate judges a snapshot. A store is as bad as its gravest reason.
func Evaluate(s Snapshot, t Thresholds) Report {
	report := Report{
		OverallHealth: Healthy, Metrics: Figures{s.Metrics, s.More}, StoreID: s.Store, StoreName: s.Name, Timestamp: s.At, Mode: s.Mode,
		Reasons: []Reason{}, Details: s.Details, LastReconcile: s.LastReconcile, LastHeal: s.LastHeal, LastScrub: s.LastScrub,
	}
	if report.Details == nil {
		report.Details = []Affected{}
	}
	for _, r := range rules(s, t) {
		level, threshold := Degraded, r.limit.Degraded
		if r.value > r.limit.Critical {
			level, threshold = Critical, r.limit.Critical
		}
		if r.value <= threshold {
			continue
		}
		report.add(Reason{Code: r.code, Level: level, Value: r.value, Threshold: threshold, ES: fmt.Sprintf(r.es, r.value), EN: fmt.Sprintf(r.en, r.value)})
	}
	if s.Pause != nil {
		report.judgePause(*s.Pause)
	} else {
		report.judgeDuties(s.Duties, s.At)
	}
	if s.LockDegraded {
		report.add(Reason{
			Code: "LOCK_BACKEND_DEGRADED", Level: Degraded, Value: 1,
			ES: "Redis no responde: el candado sigue solo con la base de datos", EN: "Redis does not answer: the lock goes on with the database alone",
		})
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
			"FISCAL_DUPLICATE", s.More.FiscalDuplicateCount, t.FiscalDuplicates,
			"%d números fiscales repetidos en ventas no anuladas: avise a legal/contabilidad (runbook 2)",
			"%d fiscal numbers are used twice by sales that are not voided: call legal (runbook 2)",
		},
		{
			"FISCAL_RANGE_REGRESSION", s.More.FiscalRegressionCount, noneAtAll,
			"%d rangos fiscales volverían a entregar números ya usados: no venda con esas cajas (reconciled fiscal ranges)",
			"%d fiscal ranges would give out numbers again that are used: do not sell on those tills (reconciled fiscal ranges)",
		},
		{
			"FISCAL_RANGE_OVERLAP", s.More.FiscalRangeOverlapCount, noneAtAll,
			"%d pares de rangos fiscales activos de cajas distintas se solapan (reconciled fiscal ranges)",
			"%d pairs of active fiscal ranges of different tills overlap (reconciled fiscal ranges)",
		},
		{
			"FISCAL_OUT_OF_RANGE", s.More.FiscalOutOfRangeCount, noneIsFine,
			"%d números fiscales no salen de ningún rango otorgado a su caja (reconciled fiscal ranges)",
			"%d fiscal numbers come from no range that their till was granted (reconciled fiscal ranges)",
		},
		{
			"EVENT_TAMPERED", s.More.EventTamperedCount - s.More.EventDeletedCount, noneAtAll,
			"%d indicios de que el registro de eventos fue alterado fuera del POS: avise a soporte",
			"%d signs that the event log was altered behind the POS: call support",
		},
		{
			"CAPTURE_BROKEN", s.More.CaptureBrokenCount, noneAtAll,
			"%d indicios de que hubo cambios que ningún disparador registró: reconciled event evidence",
			"%d signs that changes went past the triggers: reconciled event evidence",
		},
		{
			"CLONE_OR_ROLLBACK", s.More.WentBackCount, noneAtAll,
			"%d indicios de una base de datos restaurada o copiada: reconciled event evidence",
			"%d signs of a database that was restored or copied: reconciled event evidence",
		},
		{
			"EVENT_DELETED", s.More.EventDeletedCount, noneIsFine,
			"%d eventos fueron borrados del registro sin ser una purga del POS",
			"%d events were deleted from the log and are no purge of the POS",
		},
		{
			"DELETIONS_HELD", s.More.DeletionsHeldCount, noneIsFine,
			"%d eventos borrados no vuelven hasta que una persona lo diga: reconciled event restore",
			"%d deleted events do not come back until a person says so: reconciled event restore",
		},
		{
			"PROJECTION_GAP", s.Metrics.ProjectionGapCount, t.Gaps,
			"%d eventos sin sus filas de lectura, se están curando",
			"%d events without their read-model rows, being healed",
		},
		{
			"NEGATIVE_STOCK", s.Metrics.NegativeStockCount, t.NegativeStock,
			"%d productos con existencia negativa: haga un ajuste de inventario",
			"%d products with stock below zero: make a stock adjustment",
		},
		{
			"OUTBOX_DEAD", s.More.OutboxDead, t.OutboxDead,
			"%d entradas muertas en outbox_entries: reconciled outbox", "%d dead entries in outbox_entries: reconciled outbox",
		},
		{
			"CONFLICT_RATE", s.More.ConflictRate, t.ConflictRate,
			"%d conflictos resueltos por el POS en la última hora", "%d conflicts resolved by the POS in the last hour",
		},
		{
			"EVENT_CONFLICT", s.More.ConflictCount, noneIsFine,
			"%d eventos con dos contenidos distintos: una persona debe decidir",
			"%d events with two different contents: a person must decide",
		},
		{
			"POISON", s.More.PoisonCount, noneIsFine,
			"%d eventos malformados en cuarentena", "%d malformed events in quarantine",
		},
		{
			"STOCK_DIVERGENCE", s.Metrics.StockDivergenceCount, noneIsFine,
			"%d existencias no coinciden con sus movimientos: reconciled stock", "%d stock totals do not match their movements: reconciled stock",
		},
		{
			"GAP_BLOCKED", s.More.BlockedGapCount, noneIsFine,
			"%d eventos esperan datos de referencia que faltan", "%d events lack reference data",
		},
		{
			"GAP_WAITING", s.More.OldestWaitingSeconds, anHour,
			"hay eventos que esperan a otro que no llega, el más antiguo desde hace %d s: reconciled gaps --class waiting",
			"events wait for another one that does not come, the oldest for %d s: reconciled gaps --class waiting",
		},
		{
			"OUTBOX_BACKLOG", s.More.OutboxPending, t.OutboxPending,
			"%d entradas pendientes en outbox_entries", "%d pending entries in outbox_entries",
		},
		{
			"CLOCK_SKEW", max(s.More.ClockSkewMs, -s.More.ClockSkewMs), t.ClockSkewMs,
			"el reloj de este servidor difiere %d ms del de central o de la base de datos", "this server's clock is %d ms away from central's or the database's",
		},
		{
			"DISK_LOW", s.More.DiskUsedPercent, t.DiskUsedPercent,
			"el disco más lleno está al %d %%", "the fullest disk is at %d %%",
		},
		{
			"STORE_SILENT", s.More.SilentSeconds, t.SilentSeconds,
			"la tienda no se comunica con central desde hace %d s", "the store has not been heard of for %d s",
		},
		{
			"REMOTE_SLOW", s.More.RemoteLatencyMs, t.LatencyMs,
			"central tarda %d ms", "central takes %d ms",
		},
	}
}

// judgeDuties adds which schedules have not come to a good end for too long.
func (r *Report) judgeDuties(duties []Duty, now time.Time) {
	var late []string
	var longest time.Duration
	for _, d := range duties {
		if !now.After(d.Due) {
			continue
		}
		since := d.Since.Round(time.Second)
		late = append(late, fmt.Sprintf("%s (%s)", d.Task, since))
		longest = max(longest, since)
		r.Details = append(r.Details, Affected{Kind: "late", ID: d.Task, Text: fmt.Sprintf("no good end for %s", since)})
	}
	if len(late) > 0 {
		names := strings.Join(late, ", ")
		r.add(Reason{
			Code: "SCHEDULE_LATE", Level: Degraded, Value: int64(longest.Seconds()),
			ES: "tareas atrasadas: " + names, EN: "tasks that are late: " + names,
		})
	}
}

// judgePause adds that nothing is healed or exchanged, and for how long.
func (r *Report) judgePause(p Pause) {
	until := p.Until.UTC().Format(time.RFC3339)
	r.Mode = Paused
	r.Details = append(r.Details, Affected{Kind: "pause", ID: until, Text: "by " + p.By + ": " + p.Why})
	r.add(Reason{
		Code: "PAUSED", Level: Degraded, Value: 1,
		ES: "en pausa hasta " + until + " por " + p.By + ": " + p.Why + " (reconciled pause --end la termina)",
		EN: "paused until " + until + " by " + p.By + ": " + p.Why + " (reconciled pause --end ends it)",
	})
}

// judgeRemote adds what a store's ties to central say. An unknown verdict is a
// reason by itself: nothing may look fine that was not compared.
func (r *Report) judgeRemote(s Snapshot) {
	switch {
	case !s.Metrics.RemoteReachable:
		r.add(Reason{
			Code: "REMOTE_UNREACHABLE", Level: Degraded, Value: 1,
			ES: "central no responde: " + s.RemoteError, EN: "central does not answer: " + s.RemoteError,
		})
	case !s.More.SyncReady:
		r.add(Reason{
			Code: "REMOTE_NOT_READY", Level: Degraded, Value: 1,
			ES: "central responde, pero no está listo para esta tienda: " + s.RemoteError, EN: "central answers, but is not ready for this store: " + s.RemoteError,
		})
	case s.Metrics.CircuitBreakerState == "OPEN":
		r.add(Reason{
			Code: "BREAKER_OPEN", Level: Degraded, Value: 1,
			ES: "el circuit breaker está OPEN tras fallos seguidos; pasa a HALF_OPEN en un minuto (reconciled breaker)",
			EN: "the circuit breaker is OPEN after failures in a row; it turns HALF_OPEN within a minute (reconciled breaker)",
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
