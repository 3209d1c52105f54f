package alert

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Code names what is wrong, as the runbook does.
type Code string

// The codes: the runbook's five, and those that the data calls for.
const (
	FederationCritical    Code = "FEDERATION_CRITICAL"
	ProjectionGapDetected Code = "PROJECTION_GAP_DETECTED"
	OversellingDetected   Code = "OVERSELLING_DETECTED"
	FiscalDuplicate       Code = "FISCAL_DUPLICATE"
	FederationOffline     Code = "FEDERATION_OFFLINE"

	OutboxDead            Code = "OUTBOX_DEAD"
	EventTampered         Code = "EVENT_TAMPERED"
	EventConflict         Code = "EVENT_CONFLICT"
	LostUpdate            Code = "LOST_UPDATE"
	FiscalRangeOverlap    Code = "FISCAL_RANGE_OVERLAP"
	FiscalRangeRegression Code = "FISCAL_RANGE_REGRESSION"
	LockBackendDegraded   Code = "LOCK_BACKEND_DEGRADED"
	ClockSkew             Code = "CLOCK_SKEW"
	ScheduleLate          Code = "SCHEDULE_LATE"
	CaptureBroken         Code = "CAPTURE_BROKEN"
	CloneOrRollback       Code = "CLONE_OR_ROLLBACK"
	DiskLow               Code = "DISK_LOW"
	DatabaseDown          Code = "DATABASE_DOWN"
	StoreSilent           Code = "STORE_SILENT" // at central
)

// KeyReconcile is the key of a SCHEDULE_LATE whose schedule is the exchange with
// central: it follows from FEDERATION_OFFLINE.
const KeyReconcile = "reconcile"

// Severity is how much is at stake.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
)

// Text is something said in both languages that operators read.
type Text struct {
	ES string `json:"es"`
	EN string `json:"en"`
}

// Lang is one of the two.
type Lang string

// The languages.
const (
	ES Lang = "es"
	EN Lang = "en"
)

// In is the text in a language.
func (t Text) In(lang Lang) string {
	if lang == EN {
		return t.EN
	}
	return t.ES
}

// Kind is what all alerts of a code have in common.
type Kind struct {
	Severity Severity
	// Pending is how long it must be wrong before it fires, Away how long it must not be
	// found before it is over.
	Pending, Away time.Duration
	// Growth is when more of it is news.
	Growth Growth
	// AtOnce: told to everybody at once, kept quiet by nothing, held back by no limit.
	AtOnce bool

	Title   Text
	Meaning Text
	Tried   Text // what the daemon has done about it
	Writes  bool // Tried tells of writing to the POS's data
	Unit    Text // of value and threshold
	command string
	Section string // of the runbook
}

// Growth is when more of what was told is told again.
type Growth int

const (
	// Ages: the value is an age or a level, and grows by itself.
	Ages Growth = iota
	// Doubles: it counts things, and twice as many are another incident. Doubling bounds
	// what an incident that grows for hours can say to a dozen messages.
	Doubles
	// Each: every further one counts.
	Each
	// Sums: it sums up causes. Most are alerts that are told by themselves when they come
	// up later; one that is none, and lasts, is news.
	Sums
)

// KindOf looks a code up; the zero Kind where it is not known.
func KindOf(code Code) Kind { return catalogue[code] }

// Codes are all that people can be told of, in the order of their names.
func Codes() []Code { return slices.Sorted(maps.Keys(catalogue)) }

// idle is what is done about a kind that Writes where nothing may be written.
var idle = Text{
	"Ahora no se escribe nada en los datos del POS (mode: observe, o una pausa).",
	"Nothing is written to the POS's data now (mode: observe, or a pause).",
}

// Doing is what the daemon does about it in a mode.
func (k Kind) Doing(mode health.Mode) Text {
	if k.Writes && (mode == health.Observe || mode == health.Paused) {
		return idle
	}
	return k.Tried
}

// Command is what to type next at a store: it reads, and changes nothing.
func (k Kind) Command(store uuid.UUID) string {
	return strings.ReplaceAll(k.command, "{store}", store.String())
}
