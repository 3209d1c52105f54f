// Package health judges a store: from what was measured, pure and without I/O,
// to the runbook's report. Everything that tells an operator how a store is (the
// endpoint, the CLI, the metrics) reads the same report.
package health

import (
	"time"

	"github.com/google/uuid"
)

// Level is the runbook's overallHealth.
type Level string

const (
	Healthy  Level = "healthy"
	Degraded Level = "degraded"
	Critical Level = "critical"
)

// rank orders levels, the gravest last.
func (l Level) rank() int { return map[Level]int{Healthy: 0, Degraded: 1, Critical: 2}[l] }

// Metrics are the runbook's six, under its exact names.
type Metrics struct {
	EventLagCount        int64  `json:"eventLagCount"` // events that central is not proven to have
	ProjectionGapCount   int64  `json:"projectionGapCount"`
	StockDivergenceCount int64  `json:"stockDivergenceCount"`
	NegativeStockCount   int64  `json:"negativeStockCount"`
	RemoteReachable      bool   `json:"remoteReachable"`
	CircuitBreakerState  string `json:"circuitBreakerState"`
}

// More is what the runbook's text asks for beside its six numbers.
type More struct {
	WaitingGapCount      int64  `json:"waitingGapCount"`
	BlockedGapCount      int64  `json:"blockedGapCount"`
	PoisonCount          int64  `json:"poisonCount"`
	UnsupportedCount     int64  `json:"unsupportedCount"`
	FiscalDuplicateCount int64  `json:"fiscalDuplicateCount"`
	ConflictCount        int64  `json:"conflictCount"`      // undecided: one id, two contents
	ConflictRate         int64  `json:"conflictRate"`       // of the POS's own resolutions, in the last hour
	EventTamperedCount   int64  `json:"eventTamperedCount"` // open evidence: the log was altered, or its capture was
	EventDeletedCount    int64  `json:"eventDeletedCount"`  // of that: deletions that nobody declared
	DeletionsHeldCount   int64  `json:"deletionsHeldCount"` // too many within a day to be undone without a person
	OutboxPending        int64  `json:"outboxPending"`
	OutboxDead           int64  `json:"outboxDead"`
	RemoteLatencyMs      int64  `json:"remoteLatencyMs"`
	LockBackend          string `json:"lockBackend"` // redis, or fence while Redis is away
}

// Affected names what a number counts: at most 20 of them.
type Affected struct {
	Kind string `json:"kind"` // negative_stock, fiscal_duplicate, poison, conflict, waiting, tampered, held
	ID   string `json:"id"`
	Text string `json:"text"`
}

// Last is how a duty of the daemon ended when it last ran.
type Last struct {
	Verdict      string    `json:"verdict"` // unknown before the first
	At           time.Time `json:"at,omitzero"`
	SecondsSince int64     `json:"secondsSinceSuccess"` // -1: never
	Reason       string    `json:"reason,omitempty"`
}

// Snapshot is everything that was measured of a store.
type Snapshot struct {
	Store   uuid.UUID
	At      time.Time
	Central bool // this is central: there is no remote to reach
	Metrics Metrics
	More    More
	Details []Affected
	// RemoteError says why central is not reachable, "" when it is.
	RemoteError   string
	LastReconcile Last
	LastHeal      Last
}

// Thresholds beyond which a number is critical. Those that are degraded from the
// first are not configurable.
type Thresholds struct {
	CriticalGaps, CriticalNegativeStock, CriticalOutboxDead, CriticalConflictRate int64
}

// Reason is why a store is not healthy, in both languages operators read.
type Reason struct {
	Code  string `json:"code"`
	Level Level  `json:"level"`
	Value int64  `json:"value"`
	ES    string `json:"es"`
	EN    string `json:"en"`
}

// Report is the runbook's answer, with more fields beside its own.
type Report struct {
	OverallHealth Level      `json:"overallHealth"`
	Metrics       Metrics    `json:"metrics"`
	StoreID       uuid.UUID  `json:"storeId"`
	Timestamp     time.Time  `json:"timestamp"`
	More          More       `json:"more"`
	Reasons       []Reason   `json:"reasons"`
	Details       []Affected `json:"details"`
	LastReconcile Last       `json:"lastReconcile"`
	LastHeal      Last       `json:"lastHeal"`
}
