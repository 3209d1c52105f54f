package alert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var ladder = []Channel{
	{Name: "log"},
	{Name: "sre", Rung: 1, Limit: 5},
	{Name: "backend", Rung: 2, Limit: 5},
}

func storeID(n int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, n)) }

// notices are one alert of a code at each of so many stores.
func notices(code Code, first, n int) []Notice {
	var list []Notice
	for i := range n {
		store := storeID(first + i)
		list = append(list, Notice{News: Fired, At: noon, Alert: Alert{
			ID: uuid.NewSHA1(store, []byte(code)), Store: store, Code: code, State: Firing, Since: noon,
		}})
	}
	return list
}

// ofOneStore are so many alerts of a code at one store.
func ofOneStore(code Code, n int) []Notice {
	list := notices(code, 0, n)
	for i := range list {
		list[i].Alert.Store = centro
	}
	return list
}

func channelsOf(deliveries []Delivery) []string {
	var names []string
	for _, d := range deliveries {
		names = append(names, d.Channel)
	}
	return names
}

func carried(batches []Batch) (deliveries int) {
	for _, b := range batches {
		deliveries += len(b.Deliveries)
	}
	return deliveries
}

func TestANoticeGoesToItsRungOfTheLadder(t *testing.T) {
	for _, c := range []struct {
		news News
		rung int
		want []string
	}{
		{Fired, 0, []string{"log"}},
		{Escalated, 1, []string{"sre"}},
		{Escalated, 2, []string{"backend"}},
		{Over, 1, []string{"log", "sre"}},
		{Fired, 2, []string{"log", "sre", "backend"}}, // fiscal
	} {
		n := notices(ProjectionGapDetected, 0, 1)[0]
		n.News, n.Rung = c.news, c.rung
		got := Deliver([]Notice{n}, ladder)
		if names := channelsOf(got); !slices.Equal(names, c.want) {
			t.Errorf("%s at rung %d: %v, want %v", c.news, c.rung, names, c.want)
		}
		ids := map[uuid.UUID]bool{}
		for _, d := range got {
			ids[d.ID] = true
			if d.Alert != n.Alert.ID || d.Message.ID != Render(n).ID || !d.NextAttempt.Equal(noon) {
				t.Errorf("%+v", d)
			}
		}
		if len(ids) != len(got) {
			t.Error("two deliveries have one id")
		}
	}
	if last := LastRung(ladder); last != 2 {
		t.Errorf("last rung %d", last)
	}
}

func TestAFewOfAStoreGoOneByOneAndMoreAsADigest(t *testing.T) {
	log := ladder[0]
	batches := log.Due(noon, Deliver(ofOneStore(EventConflict, 3), ladder), 0)
	if len(batches) != 3 || batches[0].Message.Text != batches[0].Deliveries[0].Message.Text {
		t.Errorf("%d messages for three notices", len(batches))
	}
	waiting := Deliver(append(ofOneStore(EventConflict, 4), notices(LostUpdate, 1, 1)...), ladder)
	batches = log.Due(noon, waiting, 0)
	if len(batches) != 2 || len(batches[0].Deliveries) != 4 || len(batches[1].Deliveries) != 1 {
		t.Fatalf("%d messages, want a digest of the store and the other one", len(batches))
	}
	digest := batches[0].Message
	if digest.Subject != "[ALTA] 4 avisos, "+centro.String() || len(digest.Items) != 4 {
		t.Errorf("%q with %d items", digest.Subject, len(digest.Items))
	}
	for _, n := range ofOneStore(EventConflict, 4) {
		if !strings.Contains(digest.Text, itemOf(n).Summary(EN)) || !strings.Contains(digest.Text, itemOf(n).Command) {
			t.Errorf("%s is not in\n%s", n.Alert.ID, digest.Text)
		}
	}
}

func TestAThousandAlertsInAMinuteAreAHandfulOfMessages(t *testing.T) {
	sre := Channel{Name: "sre", Limit: 5}
	waiting := Deliver(notices(StoreSilent, 0, 1000), []Channel{sre})
	batches := sre.Due(noon, waiting, 0)
	if len(batches) != 4 || carried(batches) != 1000 {
		t.Errorf("%d messages with %d notices, want 4 with all", len(batches), carried(batches))
	}
	unlimited := Channel{Name: "sre"}
	if n := len(unlimited.Due(noon, waiting, 0)); n != 1000 {
		t.Errorf("%d messages without a limit, want one a store", n)
	}
}

func TestWhatIsOverTheLimitIsHeldBackAndComesAsADigest(t *testing.T) {
	sre := Channel{Name: "sre", Limit: 5}
	waiting := Deliver(notices(StoreSilent, 0, 12), []Channel{sre})
	if n := len(sre.Due(noon, waiting, 5)); n != 0 {
		t.Errorf("%d messages beyond the limit", n)
	}
	batches := sre.Due(noon, waiting, 4)
	if len(batches) != 1 || len(batches[0].Message.Items) != 12 {
		t.Errorf("%d messages, want one with everything", len(batches))
	}
	if n := len(sre.Due(noon, waiting[:5], 0)); n != 5 {
		t.Errorf("%d messages within the limit, want 5", n)
	}
}

func TestAFiscalDuplicateWaitsForNoLimit(t *testing.T) {
	sre := Channel{Name: "sre", Limit: 5}
	waiting := Deliver(append(notices(StoreSilent, 0, 3), notices(FiscalDuplicate, 3, 2)...), []Channel{sre})
	batches := sre.Due(noon, waiting, 5)
	if len(batches) != 2 || carried(batches) != 2 {
		t.Fatalf("%d messages with %d notices, want the two duplicates", len(batches), carried(batches))
	}
	if batches = sre.Due(noon, waiting, 3); carried(batches) != 2 {
		t.Errorf("%d notices, want the others to wait: the duplicates take what was left", carried(batches))
	}
	many := Deliver(notices(FiscalDuplicate, 0, 700), []Channel{sre})
	if batches := sre.Due(noon, many, 5); len(batches) != 3 || carried(batches) != 700 {
		t.Errorf("%d messages with %d notices, want 3 with all", len(batches), carried(batches))
	}
}

func TestTheGravestComesFirst(t *testing.T) {
	sre := Channel{Name: "sre", Limit: 1}
	mixed := append(notices(LostUpdate, 0, 300), notices(DatabaseDown, 300, 2)...)
	batches := sre.Due(noon, Deliver(mixed, []Channel{sre}), 0)
	if len(batches) != 1 || len(batches[0].Deliveries) != digestAtMost {
		t.Fatalf("%d messages", len(batches))
	}
	m := batches[0].Message
	if m.Items[1].Code != DatabaseDown || m.Items[2].Code != LostUpdate || !strings.HasPrefix(m.Subject, "[CRÍTICA] 250 avisos, 250 tiendas") {
		t.Errorf("%s: %s, %s", m.Subject, m.Items[1].Code, m.Items[2].Code)
	}

	a := ofOneStore(ProjectionGapDetected, 4)
	for i := range a {
		a[i].At = noon.Add(-time.Duration(i) * minute)
	}
	waiting := Deliver(a, []Channel{sre})
	m = sre.Due(noon, waiting, 0)[0].Message
	if !slices.IsSortedFunc(m.Items, func(a, b Item) int { return a.At.Compare(b.At) }) {
		t.Error("of the same weight, the oldest is not first")
	}
}

func TestADigestOfAnotherDayIsAnotherMessage(t *testing.T) {
	sre, a := Channel{Name: "sre"}, ofOneStore(ProjectionGapDetected, 4)
	today := sre.Due(noon, Deliver(a, []Channel{sre}), 0)[0].Message.ID
	if again := sre.Due(noon.Add(minute), Deliver(a, []Channel{sre}), 0)[0].Message.ID; again != today {
		t.Error("tried again it has another id")
	}
	for i := range a {
		a[i].At = noon.Add(RemindAfter)
	}
	if tomorrow := sre.Due(noon.Add(RemindAfter), Deliver(a, []Channel{sre}), 0)[0].Message.ID; tomorrow == today {
		t.Error("two messages have one id")
	}
}

func TestOnlyWhatIsDueOnThisChannelIsSent(t *testing.T) {
	waiting := Deliver(notices(ProjectionGapDetected, 0, 3), []Channel{{Name: "sre"}, {Name: "other"}})
	sre := Channel{Name: "sre"}
	for i, d := range waiting {
		switch {
		case d.Channel != "sre":
		case d.Store == storeID(0):
			waiting[i].DoneAt = noon
		case d.Store == storeID(1):
			waiting[i].NextAttempt = noon.Add(time.Second)
		}
	}
	if batches := sre.Due(noon, waiting, 0); len(batches) != 1 || batches[0].Deliveries[0].Store != storeID(2) {
		t.Errorf("%d messages", len(batches))
	}
}

func TestADeliveryIsTriedUntilASendSucceeds(t *testing.T) {
	hook := Channel{Name: "hook"}
	kept := map[uuid.UUID]Delivery{}
	keep := func(deliveries []Delivery) {
		for _, d := range deliveries {
			kept[d.ID] = d
		}
	}
	keep(Deliver(ofOneStore(ProjectionGapDetected, 4), []Channel{hook}))
	now, tries := noon, 0
	for ; tries < 30 && now.Before(noon.Add(time.Hour)); now = now.Add(time.Second) {
		for _, b := range hook.Due(now, slices.Collect(maps.Values(kept)), 0) {
			if tries++; tries == 4 {
				keep(b.Sent(now))
				continue
			}
			keep(b.Failed(now, errors.New("no route\nto host")))
		}
	}
	if tries != 4 {
		t.Errorf("%d sends, want three that failed and one", tries)
	}
	for _, d := range kept {
		if d.Attempts != 4 || d.DoneAt != noon.Add((10+20+40)*time.Second) || d.LastError != "" {
			t.Errorf("%+v", d)
		}
	}
}

func TestARefusedMessageDoesNotKeepBackTheOthers(t *testing.T) {
	hook := Channel{Name: "hook", Limit: 5}
	waiting := Deliver(ofOneStore(ProjectionGapDetected, 6), []Channel{hook})
	refused := fmt.Errorf("answered 422: %w", ErrRefused)
	batches := hook.Due(noon, waiting, 0)
	waiting = batches[0].Failed(noon, refused)
	later := noon.Add(time.Hour)
	if batches = hook.Due(later, waiting, 0); len(batches) != 5 || carried(batches) != 5 {
		t.Fatalf("%d messages with %d notices, want one by one, up to the limit", len(batches), carried(batches))
	}
	fresh := Deliver(ofOneStore(LostUpdate, 5), []Channel{hook})
	batches = hook.Due(later, append(waiting, fresh...), 4)
	if len(batches) != 1 || len(batches[0].Deliveries) != 5 || batches[0].Deliveries[0].Alone {
		t.Errorf("%d messages, want the others together", len(batches))
	}
}

func TestAttemptsBackOffToAQuarterOfAnHour(t *testing.T) {
	var waits []time.Duration
	for attempts := range 12 {
		waits = append(waits, NextAttempt(attempts))
	}
	const s, m = time.Second, time.Minute
	want := []time.Duration{10 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 320 * s, 640 * s, 15 * m, 15 * m, 15 * m, 15 * m}
	if !slices.Equal(waits, want) {
		t.Errorf("%v\nwant %v", waits, want)
	}
	if NextAttempt(1<<30) != 15*m {
		t.Error("overflows")
	}
}
