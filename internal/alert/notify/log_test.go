package notify_test

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/alert/notify"
)

func TestTheLogHasALineForEachAlert(t *testing.T) {
	core, seen := observer.New(zapcore.DebugLevel)
	log := notify.NewLog(zap.New(core))
	a := gap()
	duplicate := a
	duplicate.Code, duplicate.Key = alert.FiscalDuplicate, "5e/17"
	for _, n := range []alert.Notice{news(a, alert.Fired), news(duplicate, alert.Fired), news(duplicate, alert.Over)} {
		if err := log.Send(t.Context(), alert.Render(n)); err != nil {
			t.Fatal(err)
		}
	}
	want := []zapcore.Level{zapcore.WarnLevel, zapcore.ErrorLevel, zapcore.InfoLevel}
	for i, line := range seen.All() {
		if line.Level != want[i] {
			t.Errorf("line %d at %s, want %s", i, line.Level, want[i])
		}
	}
	fields := seen.All()[1].ContextMap()
	if fields["code"] != "FISCAL_DUPLICATE" || fields["key"] != "5e/17" || fields["store"] != a.Store.String() || fields["value"] != int64(3) {
		t.Errorf("%v", fields)
	}
}
