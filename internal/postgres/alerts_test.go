package postgres_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
)

var desk = alert.Channel{Name: "desk"}

// see is one look that finds an incident, or nothing, of a code.
func see(t *testing.T, book *postgres.Alerts, found ...alert.Finding) (changed []alert.Alert) {
	t.Helper()
	err := book.Step(t.Context(), shop, 0, func(now time.Time, kept []alert.Alert) ([]alert.Alert, []alert.Delivery) {
		look := alert.Look{Store: shop}
		look.Add(alert.FiscalDuplicate, found...)
		var told []alert.Notice
		changed, told = alert.Step(now, kept, look, 0)
		return changed, alert.Deliver(told, []alert.Channel{desk})
	})
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func duplicate(key string) alert.Finding {
	return alert.Finding{Key: key, Value: 2, Threshold: 1, Total: 2, Affected: []health.Affected{{Kind: "sale", ID: "a"}, {Kind: "sale", ID: "b"}}}
}

func TestAnAlertIsTheSameAfterARestart(t *testing.T) {
	s, _ := site(t)
	made := see(t, postgres.NewAlerts(s.DB), duplicate("A/1"))
	if len(made) != 1 || made[0].State != alert.Firing {
		t.Fatalf("made %+v", made)
	}
	again := postgres.NewAlerts(s.DB) // another process
	kept, err := again.List(t.Context(), shop, false, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, kept); diff != "" {
		t.Error(diff)
	}
	if changed := see(t, again, duplicate("A/1")); len(changed) > 0 && changed[0].ID != made[0].ID {
		t.Errorf("a second alert: %+v", changed)
	}
	waiting, sent, _, err := again.Waiting(t.Context(), desk.Name)
	if err != nil || len(waiting) != 1 || sent != 0 || waiting[0].Alert != made[0].ID {
		t.Fatalf("waiting %+v, %d sent, %v; want one delivery", waiting, sent, err)
	}
	batch := desk.Due(time.Now(), waiting, sent)[0]
	if err := again.Keep(t.Context(), batch.Failed(time.Now(), errors.New("no line"))); err != nil {
		t.Fatal(err)
	}
	if waiting, _, _, _ = again.Waiting(t.Context(), desk.Name); len(waiting) != 0 {
		t.Error("what failed is due again at once")
	}
	if err := again.Keep(t.Context(), batch.Sent(time.Now())); err != nil {
		t.Fatal(err)
	}
	if waiting, sent, _, err = again.Waiting(t.Context(), desk.Name); err != nil || len(waiting) != 0 || sent != 1 {
		t.Errorf("%d waiting, %d sent, %v", len(waiting), sent, err)
	}
}

func TestADaemonBesideAnotherTakesNoSecondStep(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	var mu sync.Mutex
	steps := 0
	var daemons sync.WaitGroup
	for range 4 {
		daemons.Go(func() {
			err := book.Step(t.Context(), shop, time.Minute, func(time.Time, []alert.Alert) ([]alert.Alert, []alert.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				steps++
				return nil, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	daemons.Wait()
	if steps != 1 {
		t.Errorf("%d steps, want 1", steps)
	}
}

func TestOneOfSeveralDaemonsSendsOverAChannel(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	one, other := uuid.New(), uuid.New()
	claim := func(sender uuid.UUID, want bool) {
		t.Helper()
		if mine, err := book.Claim(t.Context(), "mail", sender, time.Minute); err != nil || mine != want {
			t.Errorf("claimed %v, %v; want %v", mine, err, want)
		}
	}
	claim(one, true)
	claim(other, false)
	claim(one, true)
	execSuper(t, s, `UPDATE reconciled.channel SET until = now()`) // it has died
	claim(other, true)
	claim(one, false)
	execSuper(t, s, `UPDATE reconciled.channel SET until = now() + interval '1 hour'`) // and then the clock was set back
	claim(one, true)
}

// putOff is a delivery whose send failed by a clock that was so far ahead.
func putOff(t *testing.T, book *postgres.Alerts, ahead time.Duration) {
	t.Helper()
	waiting, sent, now, err := book.Waiting(t.Context(), desk.Name)
	if err != nil || len(waiting) != 1 {
		t.Fatalf("waiting %+v, %v; want one delivery", waiting, err)
	}
	if err := book.Keep(t.Context(), desk.Due(now, waiting, sent)[0].Failed(now.Add(ahead), errors.New("no line"))); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasPutOffByAClockThatWasAheadIsDue(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	see(t, book, duplicate("A/1"))
	putOff(t, book, time.Hour)
	waiting, sent, now, err := book.Waiting(t.Context(), desk.Name)
	if err != nil || len(desk.Due(now, waiting, sent)) != 1 {
		t.Fatalf("waiting %+v, %v; want it due", waiting, err)
	}
	putOff(t, book, 0)
	if waiting, _, _, err := book.Waiting(t.Context(), desk.Name); err != nil || len(waiting) != 0 {
		t.Errorf("waiting %+v, %v; want none before its next attempt", waiting, err)
	}
}

func TestNothingOfAnAlertIsToldBeforeItsBeginning(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	began := see(t, book, duplicate("A/1"))[0]
	// news are what is sent of that alert now, by a send that ends like this.
	news := func(sent error) (list []alert.News) {
		t.Helper()
		waiting, n, now, err := book.Waiting(t.Context(), desk.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, batch := range desk.Due(now, waiting, n) {
			became := batch.Sent(now)
			if sent != nil {
				became = batch.Failed(now, sent)
			}
			if err := book.Keep(t.Context(), became); err != nil {
				t.Fatal(err)
			}
			for _, item := range batch.Message.Items {
				if item.ID == began.ID {
					list = append(list, item.News)
				}
			}
		}
		return list
	}
	want := func(got []alert.News, want ...alert.News) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	// over makes the alert's end, by a clock that has been set back since its beginning.
	over := func() {
		t.Helper()
		ended := began
		ended.State, ended.Resolved = alert.Resolved, began.Since.Add(time.Minute)
		end := alert.Deliver([]alert.Notice{{News: alert.Over, At: began.Since, Alert: ended}}, []alert.Channel{desk})
		if err := book.Keep(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		execSuper(t, s, `UPDATE reconciled.delivery SET made_at = now() - interval '1 hour' WHERE delivery #>> '{message,alerts,0,news}' = 'resolved'`)
	}
	noLine := errors.New("no line")
	dueNow := func() {
		t.Helper()
		execSuper(t, s, `UPDATE reconciled.delivery SET next_attempt = now(), delivery = jsonb_set(delivery, '{nextAttempt}', to_jsonb(now())) WHERE done_at IS NULL`)
	}

	want(news(noLine), alert.Fired)
	over()
	see(t, book, duplicate("A/1"), duplicate("B/1")) // another alert is not held up
	if waiting, _, _, err := book.Waiting(t.Context(), desk.Name); err != nil || len(waiting) != 1 || waiting[0].Alert == began.ID {
		t.Errorf("waiting %+v, %v; want the other alert's alone", waiting, err)
	}
	want(news(nil)) // put off
	dueNow()
	want(news(noLine), alert.Fired) // both are due, and the first fails again
	dueNow()
	want(news(nil), alert.Fired)
	want(news(nil), alert.Over)
	want(news(nil))
}

func TestWhatAReceiverRefusesHoldsUpNothing(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	began := see(t, book, duplicate("A/1"))[0]
	end := alert.Deliver([]alert.Notice{{News: alert.Over, At: began.Since, Alert: began}}, []alert.Channel{desk})
	if err := book.Keep(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	waiting, sent, now, err := book.Waiting(t.Context(), desk.Name)
	if err != nil || len(waiting) != 1 {
		t.Fatalf("waiting %+v, %v; want the beginning alone", waiting, err)
	}
	if err := book.Keep(t.Context(), desk.Due(now, waiting, sent)[0].Failed(now, alert.ErrRefused)); err != nil {
		t.Fatal(err)
	}
	if waiting, _, _, err = book.Waiting(t.Context(), desk.Name); err != nil || len(waiting) != 1 || waiting[0].ID != end[0].ID {
		t.Errorf("waiting %+v, %v; want the end", waiting, err)
	}
}

func TestAnAcknowledgementIsAuditedAndRefusedForWhatIsOver(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	made := see(t, book, duplicate("A/1"))[0]
	if _, err := book.Acknowledge(t.Context(), shop, uuid.New(), "ana", "x"); !errors.Is(err, postgres.ErrNoAlert) {
		t.Errorf("%v, want ErrNoAlert", err)
	}
	if _, err := book.Acknowledge(t.Context(), otherShop, made.ID, "ana", "x"); !errors.Is(err, postgres.ErrNoAlert) {
		t.Errorf("another store's alert: %v, want ErrNoAlert", err)
	}
	taken, err := book.Acknowledge(t.Context(), shop, made.ID, "ana", "legal knows")
	if err != nil || taken.State != alert.Acknowledged || taken.Acknowledgement.By != "ana" {
		t.Fatalf("%+v, %v", taken, err)
	}
	if n := number(t, s, `SELECT count(*) FROM reconciled.audit WHERE action = 'alerts acknowledge' AND actor = 'ana' AND target = $1 AND detail ->> 'why' = 'legal knows'`, made.ID.String()); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	list, err := book.List(t.Context(), shop, false, 10)
	if err != nil || len(list) != 1 || list[0].State != alert.Acknowledged {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTheShopsScreensAreToldOnce(t *testing.T) {
	s, _ := site(t)
	book := postgres.NewAlerts(s.DB)
	see(t, book, duplicate("A/1"))
	grant := s.Grant(t, shop)
	for _, want := range []int{1, 0} {
		if shown, err := book.Show(t.Context(), grant, desk); err != nil || shown != want {
			t.Errorf("shown %d, %v; want %d", shown, err, want)
		}
	}
	if n := number(t, s, `SELECT count(*) FROM notifications WHERE store_id = $1 AND category = 'federation_health' AND notification_type = 'alert'
		AND user_id IS NULL AND priority = 'urgent' AND severity = 'critical' AND metadata ->> 'alertKey' = 'FISCAL_DUPLICATE'
		AND title <> '' AND message LIKE '%reconciled fiscal duplicates%'`, shop); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
	old := grant
	old.Epoch--
	see(t, book, duplicate("A/1"), duplicate("A/2"))
	if _, err := book.Show(t.Context(), old, desk); err == nil {
		t.Error("shown under an old grant")
	}
	if n := number(t, s, `SELECT count(*) FROM notifications`); n != 1 {
		t.Errorf("%d notifications after a fenced write, want 1", n)
	}
}

func TestAStoreIsSilentSinceItCalledOrWasAwaited(t *testing.T) {
	s, log := site(t)
	silent := func(central bool) int64 {
		t.Helper()
		snapshot := health.Snapshot{Central: central}
		if err := postgres.NewHealth(log).Measure(t.Context(), shop, &snapshot); err != nil {
			t.Fatal(err)
		}
		return snapshot.More.SilentSeconds
	}
	book := postgres.NewAlerts(s.DB)
	await := func() {
		t.Helper()
		if err := book.Await(t.Context(), []uuid.UUID{shop, otherShop}); err != nil {
			t.Fatal(err)
		}
	}
	if got := silent(true); got != -1 {
		t.Errorf("silent for %d s before anybody awaited it", got)
	}
	await()
	execSuper(t, s, `UPDATE reconciled.heard SET at = now() - interval '3 h'`)
	await() // central was started again
	if got := silent(true); got < 3*3600 || got > 3*3600+60 {
		t.Errorf("silent for %d s, want three hours", got)
	}
	if err := book.Hear(t.Context(), shop); err != nil {
		t.Fatal(err)
	}
	if got := silent(true); got < 0 || got > 60 {
		t.Errorf("silent for %d s after it called", got)
	}
	if got := silent(false); got != -1 {
		t.Errorf("silent for %d s at a store", got)
	}
}

func TestTheSameNumberInTwoSeriesIsTwoAlerts(t *testing.T) {
	s, log := site(t)
	for _, series := range []string{"A", "B"} {
		exec(t, s.Owner, `INSERT INTO invoice_series (id, store_id, series_code, name) VALUES ($1, $2, $3, $3)`, id("series "+series), shop, series)
		exec(t, s.Owner, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
			SELECT gen_random_uuid(), $1, now(), 'BS', '{}', '{}', '777', $2 FROM generate_series(1, 2)`, shop, id("series "+series))
	}
	snapshot := health.Snapshot{Store: shop, Mode: health.Normal}
	if err := postgres.NewHealth(log).Measure(t.Context(), shop, &snapshot); err != nil {
		t.Fatal(err)
	}
	keys := map[string]int{}
	for _, f := range alert.Find(health.Evaluate(snapshot, health.Thresholds{})).Findings {
		if f.Code == alert.FiscalDuplicate {
			keys[f.Key] += len(f.Affected)
		}
	}
	if diff := cmp.Diff(map[string]int{"A/777": 2, "B/777": 2}, keys); diff != "" {
		t.Error(diff)
	}
}
