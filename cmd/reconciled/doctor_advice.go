package main

import (
	"strings"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
)

// advice is what to say of a reason that has no alert of its own.
type advice struct {
	section, next string
	doing         alert.Text
	kind          string // of what it counts
}

// advised are the reasons without an alert. Commands read before they change.
var advised = map[string]advice{
	"FISCAL_OUT_OF_RANGE": {"2", "reconciled fiscal ranges --store {store}", alert.Text{
		ES: "Nada: un número fiscal nunca se cambia. La venta y su caja están nombradas aquí.",
		EN: "Nothing: a fiscal number is never changed. The sale and its till are named here.",
	}, "fiscal_out_of_range"},
	"DELETIONS_HELD": {"4", "reconciled event restore --store {store}", alert.Text{
		ES: "Las supresiones están retenidas con su evidencia; nada vuelve ni se borra hasta que usted decida.",
		EN: "The deletions are held with their evidence; nothing comes back or goes until you decide.",
	}, "held"},
	"CONFLICT_RATE": {"4", "reconciled conflicts --store {store}", alert.Text{
		ES: "Cuenta lo que el POS resolvió con last-write-wins; lo que se perdió aparece en reconciled event lost.",
		EN: "It counts what the POS resolved by last write wins; what was lost is in reconciled event lost.",
	}, ""},
	"POISON": {"2", "reconciled gaps --store {store} --class poison", alert.Text{
		ES: "Están en cuarentena y no detienen a los demás; se reintentan o se descartan con un motivo.",
		EN: "They are in quarantine and hold up nothing else; they are retried, or dismissed with a reason.",
	}, "poison"},
	"STOCK_DIVERGENCE": {"2", "reconciled stock --store {store}", alert.Text{
		ES: "El libro de movimientos manda; reconciled stock --repair --dry-run muestra qué cambiaría en la caché.",
		EN: "The ledger counts; reconciled stock --repair --dry-run shows what would change of the cache.",
	}, "stock_divergence"},
	"GAP_BLOCKED": {"2", "reconciled gaps --store {store} --class blocked", alert.Text{
		ES: "Se curan solos cuando el dato de referencia (serie, usuario, almacén) exista en esta base; lo que depende de un evento alterado espera a que se decida sobre él (reconciled event evidence).",
		EN: "They heal by themselves once the reference data (series, user, warehouse) is in this database; what an altered event had a say in waits for a decision about it (reconciled event evidence).",
	}, "waiting"},
	"GAP_WAITING": {"2", "reconciled gaps --store {store} --class waiting", alert.Text{
		ES: "Se curan solos cuando llegue el evento que les falta; si nunca llega, la caja que lo tiene no se ha sincronizado, o se perdió.",
		EN: "They heal by themselves once the event that they lack is here; where it never comes, the till that has it has not synchronised, or it is lost.",
	}, "waiting"},
	"OUTBOX_BACKLOG": {"4", "reconciled outbox --store {store}", alert.Text{
		ES: "El backend del POS las procesa cada 3 s; si no bajan, el backend no está trabajando.",
		EN: "The POS's backend works on them every 3 s; if they do not go down it does not.",
	}, ""},
	"REMOTE_SLOW": {"2", "reconciled health --store {store} --fresh", alert.Text{
		ES: "Las rondas siguen, más despacio.", EN: "Rounds go on, more slowly.",
	}, ""},
	"NOT_COMPARED": {"3", "reconciled reconcile --store {store}", alert.Text{
		ES: "Lo intenta de nuevo según el horario; hasta entonces no dice que están sincronizados.",
		EN: "It tries again on schedule; until then it does not say that they are in sync.",
	}, ""},
	"DIFFERS": {"3", "reconciled conflicts --store {store}", alert.Text{
		ES: "Ambas copias se conservan; nada se sobrescribe hasta que una persona decida con reconciled event decide.",
		EN: "Both copies are kept; nothing is overwritten until a person decides, with reconciled event decide.",
	}, "conflict"},
	"PAUSED": {"3", "reconciled pause --store {store}", alert.Text{
		ES: "No escribe nada hasta que termine la pausa.", EN: "It writes nothing until the pause ends.",
	}, "pause"},
}

// affectedKinds are the kinds of what a reason counts, where its alert does not say.
var affectedKinds = map[string]string{
	"FISCAL_DUPLICATE": "fiscal_duplicate", "EVENT_TAMPERED": "tampered", "EVENT_DELETED": "tampered", "SCHEDULE_LATE": "late",
	"PROJECTION_GAP": "gap", "NEGATIVE_STOCK": "negative_stock", "OUTBOX_DEAD": "outbox_dead", "EVENT_CONFLICT": "conflict",
	"LOST_UPDATE": "lost_update", "CAPTURE_BROKEN": "capture", "CLONE_OR_ROLLBACK": "went_back", "DISK_LOW": "disk",
	"FISCAL_RANGE_OVERLAP": "fiscal_overlap", "FISCAL_OUT_OF_RANGE": "fiscal_out_of_range", "FISCAL_RANGE_REGRESSION": "fiscal_regression",
}

// describe says what the daemon does about a reason, and what a person should.
func describe(report health.Report, reason health.Reason) ailment {
	a := ailment{Reason: reason}
	kind := affectedKinds[reason.Code]
	if code := alert.CodeOf(reason.Code); code != "" {
		known := alert.KindOf(code)
		a.Section, a.Doing, a.Next = known.Section, known.Doing(report.Mode), known.Command(report.StoreID)
	} else {
		known := advised[reason.Code]
		a.Section, a.Doing, a.Next = known.section, known.doing, strings.ReplaceAll(known.next, "{store}", report.StoreID.String())
		kind = known.kind
	}
	for _, d := range report.Details {
		if kind != "" && d.Kind == kind {
			a.Affected = append(a.Affected, d)
		}
	}
	return a
}
