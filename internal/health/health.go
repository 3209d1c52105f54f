// Package health judges a store: from what was measured, pure and without I/O,
// to the runbook's report. Everything that tells an operator how a store is (the
// endpoint, the CLI, the metrics) reads the same report.
package health

import (
	"math"
	"reflect"
	"slices"
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

// Mode is what the daemon may do at a store.
type Mode string

// The modes.
const (
	Normal  Mode = "normal"
	Observe Mode = "observe" // looks, and writes nothing to the POS's data: so it is configured
	Paused  Mode = "paused"  // a person has stopped all writing for a while
)

// Pause says who stopped the writing, until when and why.
type Pause struct {
	Until   time.Time
	By, Why string
}

// Metrics are the runbook's six, under its exact names.
type Metrics struct {
	EventLagCount        int64  `json:"eventLagCount"` // events that central is not proven to have
	ProjectionGapCount   int64  `json:"projectionGapCount"`
	StockDivergenceCount int64  `json:"stockDivergenceCount"`
	NegativeStockCount   int64  `json:"negativeStockCount"`
	RemoteReachable      bool   `json:"remoteReachable"` // something answers there; see SyncReady
	CircuitBreakerState  string `json:"circuitBreakerState"`
}

// More is what the runbook's text asks for beside its six numbers.
type More struct {
	SyncReady               bool   `json:"syncReady"`        // central answers this store, and says that it is ready
	OldestGapSeconds        int64  `json:"oldestGapSeconds"` // of the actionable gaps; 0: there is none
	WaitingGapCount         int64  `json:"waitingGapCount"`
	OldestWaitingSeconds    int64  `json:"oldestWaitingSeconds"` // of the waiting gaps; 0: there is none
	BlockedGapCount         int64  `json:"blockedGapCount"`
	PoisonCount             int64  `json:"poisonCount"`
	UnsupportedCount        int64  `json:"unsupportedCount"`
	SemanticGapCount        int64  `json:"semanticGapCount"` // rightly without rows
	LostUpdateCount         int64  `json:"lostUpdateCount"`  // payloads that last write wins replaced, and nobody restored
	FiscalDuplicateCount    int64  `json:"fiscalDuplicateCount"`
	FiscalRangeOverlapCount int64  `json:"fiscalRangeOverlapCount"` // pairs of active ranges of different devices
	FiscalOutOfRangeCount   int64  `json:"fiscalOutOfRangeCount"`   // numbers that come from no range of their device
	FiscalRegressionCount   int64  `json:"fiscalRegressionCount"`   // active ranges that the POS will give used numbers from
	ConflictCount           int64  `json:"conflictCount"`           // undecided: one id, two contents
	ConflictRate            int64  `json:"conflictRate"`            // of the POS's own resolutions, in the last hour
	EventTamperedCount      int64  `json:"eventTamperedCount"`      // open evidence that the log was altered
	EventDeletedCount       int64  `json:"eventDeletedCount"`       // of that: deletions that nobody declared
	CaptureBrokenCount      int64  `json:"captureBrokenCount"`      // open evidence that changes went past the triggers
	WentBackCount           int64  `json:"wentBackCount"`           // open evidence that a database was restored or copied
	DeletionsHeldCount      int64  `json:"deletionsHeldCount"`      // too many within a day to be undone without a person
	OutboxPending           int64  `json:"outboxPending"`
	OutboxDead              int64  `json:"outboxDead"`
	RemoteLatencyMs         int64  `json:"remoteLatencyMs"`
	ClockSkewMs             int64  `json:"clockSkewMs"`     // how far this clock is ahead of central's, or the database's
	DiskUsedPercent         int64  `json:"diskUsedPercent"` // of the fullest disk that is watched
	SilentSeconds           int64  `json:"silentSeconds"`   // at central: since the store was last heard of, or central first waited for it; -1: it has no token
	LockBackend             string `json:"lockBackend"`     // redis, or fence: without Redis, or while it is away
}

// Figures are all numbers of a report.
type Figures struct {
	Metrics
	More
}

// Affected names what a number counts: at most 20 of them.
type Affected struct {
	// Kind is one of negative_stock, stock_divergence, fiscal_duplicate, fiscal_overlap,
	// fiscal_out_of_range, fiscal_regression, gap, waiting, poison, conflict,
	// lost_update, outbox_dead, tampered, capture, went_back, held, late, disk, pause, or
	// DiskUnread.
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Text string `json:"text"`
}

// DiskUnread is the kind of a disk that could not be measured, and why.
const DiskUnread = "disk_unread"

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
	Name    string // of the store; "" where it is not known
	At      time.Time
	Central bool // this is central: there is no remote to reach
	Mode    Mode // Normal or Observe
	Pause   *Pause
	Metrics Metrics
	More    More
	Details []Affected
	// RemoteError says why central is not ready for this store, "" when it is.
	RemoteError string
	// LockDegraded: Redis is away, and the lock goes on without it.
	LockDegraded  bool
	LastReconcile Last
	LastHeal      Last
	LastScrub     Last
	Duties        []Duty
}

// Duty is something that the daemon does by a schedule.
type Duty struct {
	Task  string
	Since time.Duration // since it last came to a good end, or the daemon started
	Due   time.Time     // by when it should have again, some of its own times allowed for
}

// Limit of a number: more than Degraded is degraded, more than Critical is critical.
type Limit struct{ Degraded, Critical int64 }

// Never is a limit that no number exceeds.
const Never = math.MaxInt64

// Thresholds are the limits that are configured.
type Thresholds struct {
	Gaps, NegativeStock, OutboxPending, OutboxDead, FiscalDuplicates, ConflictRate Limit

	LatencyMs, ClockSkewMs, DiskUsedPercent, SilentSeconds Limit
}

// Reason is why a store is not healthy, in both languages operators read.
type Reason struct {
	Code  string `json:"code"`
	Level Level  `json:"level"`
	Value int64  `json:"value"`
	// Threshold is what the value is beyond.
	Threshold int64  `json:"threshold"`
	ES        string `json:"es"`
	EN        string `json:"en"`
}

// Report is the runbook's answer, with more fields beside its own.
type Report struct {
	OverallHealth Level      `json:"overallHealth"`
	Metrics       Figures    `json:"metrics"`
	StoreID       uuid.UUID  `json:"storeId"`
	StoreName     string     `json:"storeName,omitempty"`
	Timestamp     time.Time  `json:"timestamp"`
	Mode          Mode       `json:"mode"`
	Reasons       []Reason   `json:"reasons"`
	Details       []Affected `json:"details"`
	LastReconcile Last       `json:"lastReconcile"`
	LastHeal      Last       `json:"lastHeal"`
	LastScrub     Last       `json:"lastScrub"`
}

// Numbers are the report's figures as numbers, by their names in its JSON: true is 1,
// and overallHealth is 0, 1 or 2. Beside them stand whether the store is paused, and
// measuredAt, in seconds since 1970.
func (r Report) Numbers() map[string]float64 {
	numbers := map[string]float64{"overallHealth": float64(r.OverallHealth.rank()), "paused": 0, "measuredAt": float64(r.Timestamp.Unix())}
	if r.Mode == Paused {
		numbers["paused"] = 1
	}
	for _, part := range []any{r.Metrics.Metrics, r.Metrics.More} {
		v := reflect.ValueOf(part)
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("json")
			switch field := v.Field(i); field.Kind() {
			case reflect.Int64:
				numbers[name] = float64(field.Int())
			case reflect.Bool:
				numbers[name] = 0
				if field.Bool() {
					numbers[name] = 1
				}
			}
		}
	}
	return numbers
}

// Has says whether a report has a reason, and which.
func (r Report) Has(code string) (Reason, bool) {
	i := slices.IndexFunc(r.Reasons, func(reason Reason) bool { return reason.Code == code })
	if i < 0 {
		return Reason{}, false
	}
	return r.Reasons[i], true
}
