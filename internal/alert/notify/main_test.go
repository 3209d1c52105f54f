package notify_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

const patience = 30 * time.Second

// gap is an alert at a store of its own.
func gap() alert.Alert {
	store := uuid.New()
	return alert.Alert{
		ID: uuid.NewSHA1(store, []byte("gap")), Store: store, StoreName: "Señal Ñuñoa", Code: alert.ProjectionGapDetected,
		State: alert.Firing, Value: 3, Total: 3, Since: time.Now().UTC().Add(-5 * time.Minute).Truncate(time.Millisecond),
		Affected: []health.Affected{{Kind: "gap", ID: "e1", Text: "SaleCreated"}},
	}
}

func news(a alert.Alert, n alert.News) alert.Notice {
	return alert.Notice{News: n, At: a.Since.Add(5 * time.Minute), Alert: a}
}
