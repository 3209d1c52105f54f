package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
)

var errAway = errors.New("connection refused")

func isAway(err error) bool { return errors.Is(err, errAway) }

func TestADatabaseThatIsDownAtTheStartIsToldAndAwaited(t *testing.T) {
	ids := map[uuid.UUID]bool{}
	for restart := range 2 {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Duration(restart) * time.Hour) // a bubble's time begins anew
			hook := &receiver{}
			o := NewOutage("pos-7", []Outlet{{Channel: alert.Channel{Name: "webhook"}, Sender: hook, Bare: true}}, zap.NewNop())
			began := time.Now()
			err := o.Await(t.Context(), func(context.Context) error {
				switch down := time.Since(began); {
				case down >= 10*time.Minute:
					return nil
				case down > alert.KindOf(alert.DatabaseDown).Pending+sendEvery && !hook.has(alert.DatabaseDown, alert.Fired):
					t.Fatalf("not told within %s", down)
				}
				return errAway
			}, isAway)
			if err != nil || len(hook.heard) != 1 {
				t.Fatalf("%v, told %d times, want once", err, len(hook.heard))
			}
			for range 5 {
				o.step(shop, nil)
				time.Sleep(time.Minute)
			}
			o.deliver(t.Context(), o.outlets[0])
			if len(hook.heard) != 2 || !hook.has(alert.DatabaseDown, alert.Over) {
				t.Errorf("its end was not told: %+v", hook.heard)
			}
			for _, message := range hook.heard {
				ids[message.Items[0].ID] = true
			}
		})
	}
	if len(ids) != 1 {
		t.Errorf("one alert has the ids %v", ids)
	}
}

func TestNothingElseIsAwaitedThanADatabaseThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook := &receiver{}
		o := NewOutage("pos-7", []Outlet{{Channel: alert.Channel{Name: "webhook"}, Sender: hook, Bare: true}}, zap.NewNop())
		unfit := errors.New("unfit")
		tries := 0
		err := o.Await(t.Context(), func(context.Context) error {
			if tries++; tries < 3 { // seconds: told to nobody
				return errAway
			}
			return unfit
		}, isAway)
		if !errors.Is(err, unfit) || tries != 3 || len(hook.heard) != 0 {
			t.Errorf("%v after %d tries, told %d times", err, tries, len(hook.heard))
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := o.Await(ctx, func(context.Context) error { return errAway }, isAway); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the end of the context", err)
		}
	})
}
