package alert

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/health"
)

func TestWhatStandsForItsPendingTimeFiresOnce(t *testing.T) {
	w := newWatch(t)
	w.look(gaps(3)) // since now
	expect(t, "before five minutes", w.during(4*minute, gaps(3)))
	if a := w.the(ProjectionGapDetected); a.State != Pending || !a.Fired.IsZero() {
		t.Errorf("%s, fired %v, want it pending", a.State, a.Fired)
	}
	expect(t, "at five minutes", w.look(gaps(3)), "fired PROJECTION_GAP_DETECTED")
	expect(t, "afterwards", w.during(50*minute, gaps(3)))
	a := w.the(ProjectionGapDetected)
	if since := noon.Add(minute); !a.Since.Equal(since) || !a.Fired.Equal(since.Add(5*minute)) || a.State != Firing {
		t.Errorf("since %v, fired %v, %s", a.Since, a.Fired, a.State)
	}
}

func TestWhatPassesBeforeItsTimeIsForgottenAndToldToNobody(t *testing.T) {
	w := newWatch(t)
	for range 20 {
		w.during(4*minute, gaps(3))
		w.look()
	}
	expect(t, "gaps that heal", w.told)
	if kept := w.alerts(); len(kept) != 0 {
		t.Errorf("kept %v", kept)
	}
	changed, _ := Step(w.now, []Alert{{State: Pending, Code: ProjectionGapDetected, Since: w.now}}, Look{Measured: all}, 0)
	if len(changed) != 1 || changed[0].State != Forgotten {
		t.Errorf("changed %v, want the one that is forgotten", changed)
	}
}

func TestAFindingThatKnowsItsAgeNeedsNoSecondLook(t *testing.T) {
	w := newWatch(t)
	old := gaps(3)
	old.Since = w.now.Add(-time.Hour)
	expect(t, "a gap of an hour", w.look(old), "fired PROJECTION_GAP_DETECTED")

	w = newWatch(t)
	for range 24 * 60 { // another event each minute, none for long
		young := gaps(1)
		young.Since = w.now.Add(-30 * time.Second)
		w.look(young)
	}
	expect(t, "a relay of young gaps", w.told)

	w = newWatch(t)
	ahead := gaps(3)
	ahead.Since = w.now.Add(48 * time.Hour) // another clock's
	expect(t, "since a time to come", w.during(6*minute, ahead), "fired PROJECTION_GAP_DETECTED")
}

func TestWhatIsAwayForItsTimeIsResolvedAndToldOnce(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(3))
	expect(t, "the first looks without it", w.during(5*minute), []string{}...)
	if a := w.the(ProjectionGapDetected); a.State != Firing || !a.Away.Equal(noon.Add(11*minute)) {
		t.Errorf("%s, away since %v", a.State, a.Away)
	}
	expect(t, "five minutes after the first", w.look(), "resolved PROJECTION_GAP_DETECTED")
	expect(t, "afterwards", w.during(time.Hour))
	if a := w.the(ProjectionGapDetected); a.State != Resolved || !a.Resolved.Equal(noon.Add(16*minute)) {
		t.Errorf("%s at %v", a.State, a.Resolved)
	}
}

func TestAShortCalmIsNoEnd(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(3))
	told := len(w.told)
	for range 5 {
		w.during(4*minute, []Finding{}...)
		w.look(gaps(3))
	}
	expect(t, "calms of four minutes", w.told[told:])
	if a := w.the(ProjectionGapDetected); a.State != Firing || a.Reopened != 0 || !a.Away.IsZero() {
		t.Errorf("%+v", a)
	}
}

func TestUnknownIsNotFine(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(3))
	expect(t, "hours of not knowing", w.blind(50*minute, but(ProjectionGapDetected)))
	w.look()
	expect(t, "not seen since it was missed once", w.blind(5*minute, but(ProjectionGapDetected)))
	if a := w.the(ProjectionGapDetected); a.State != Firing {
		t.Fatalf("%s: nobody saw that it is gone", a.State)
	}
	expect(t, "missed twice", w.look(), "resolved PROJECTION_GAP_DETECTED")

	w = newWatch(t)
	w.during(3*minute, gaps(3))
	expect(t, "what is pending and not seen", w.blind(20*minute, nil))
	if a := w.the(ProjectionGapDetected); a.State != Pending {
		t.Errorf("%q, want it pending still", a.State)
	}
	expect(t, "seen again", w.look(gaps(3)), "fired PROJECTION_GAP_DETECTED")
}

func TestWhatComesBackSoonIsTheSameAlert(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(3))
	first := w.the(ProjectionGapDetected)
	w.during(6 * minute)
	w.during(20 * minute)
	if a := w.the(ProjectionGapDetected); a.State != Resolved {
		t.Fatalf("%s, want it resolved", a.State)
	}
	expect(t, "back within half an hour", w.look(gaps(4)))
	a := w.the(ProjectionGapDetected)
	if a.ID != first.ID || a.State != Firing || a.Reopened != 1 || !a.Since.Equal(first.Since) || a.Value != 4 {
		t.Errorf("reopened as %+v", a)
	}
	expect(t, "while it may be a flicker", w.during(4*minute, gaps(4)))
	expect(t, "when it stands: people believe it to be over", w.look(gaps(4)), "back PROJECTION_GAP_DETECTED")
	expect(t, "a calm that ended an alert which never came back", w.during(29*minute))
	expect(t, "half an hour's calm", w.during(3*minute), "resolved PROJECTION_GAP_DETECTED")

	w.during(31 * minute)
	w.look(gaps(1))
	if again := w.the(ProjectionGapDetected); again.ID == first.ID || again.State != Pending {
		t.Errorf("after half an hour it is another one: %+v", again)
	}
}

func TestADayOfFlappingIsAHandfulOfMessages(t *testing.T) {
	for _, off := range []time.Duration{6, 11, 20, 31} { // minutes
		w := newWatch(t)
		w.lastRung = 0
		for w.now.Before(noon.Add(24 * time.Hour)) {
			w.during(6*minute, of(FederationOffline))
			w.during(off * minute)
		}
		if n := len(w.told); n < 3 || n > 5 || len(w.alerts()) != 1 {
			t.Errorf("%d minutes apart: told %q, %d alerts", off, heard(w.told), len(w.alerts()))
		}
	}
}

func TestASecondDuplicateIsASecondAlert(t *testing.T) {
	w := newWatch(t)
	expect(t, "the first", w.look(duplicate("A/1", "s1", "s2")), "fired FISCAL_DUPLICATE")
	told := w.look(duplicate("A/1", "s1", "s2"), duplicate("A/2", "s3", "s4"))
	expect(t, "a second number", told, "fired FISCAL_DUPLICATE")
	if told[0].Alert.Key != "A/2" || len(w.alerts()) != 2 {
		t.Errorf("told of %q, %d alerts", told[0].Alert.Key, len(w.alerts()))
	}
	w.during(5*minute, duplicate("A/2", "s3", "s4"))
	expect(t, "the first is voided", w.look(duplicate("A/2", "s3", "s4")), "resolved FISCAL_DUPLICATE")
	expect(t, "and is not", w.look(duplicate("A/1", "s1", "s2"), duplicate("A/2", "s3", "s4")), "back FISCAL_DUPLICATE")
}

func TestAClockThatIsSetBackDelaysNothingForLong(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 1
	w.look(gaps(3))
	w.now = w.now.Add(-48 * time.Hour)
	expect(t, "five minutes by the new clock", w.during(6*minute, gaps(3)), "fired PROJECTION_GAP_DETECTED")
	w.now = w.now.Add(-48 * time.Hour)
	expect(t, "an hour by the new clock", w.during(61*minute, gaps(3)), "escalated PROJECTION_GAP_DETECTED")
	w.now = w.now.Add(-48 * time.Hour)
	expect(t, "away by the new clock", w.during(6*minute), "resolved PROJECTION_GAP_DETECTED")
}

func TestOnlyWhatChangedIsReturned(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(3), duplicate("A/1", "s1", "s2"))
	w.now = w.now.Add(minute)
	look := Look{Store: centro, Name: "Centro", Measured: all, Findings: []Finding{gaps(3), duplicate("A/1", "s1", "s2")}}
	if changed, told := Step(w.now, w.alerts(), look, 2); len(changed)+len(told) != 0 {
		t.Errorf("changed %v, told %v", changed, told)
	}
	look.Findings[0] = gaps(4)
	if changed, _ := Step(w.now, w.alerts(), look, 2); len(changed) != 1 || changed[0].Value != 4 {
		t.Errorf("changed %v, want the gaps alone", changed)
	}
}

func TestAnAlertKeepsTwentyShortLinesAndTheTotal(t *testing.T) {
	f := Finding{Code: EventTampered, Value: 50, Key: "a\r\nb"}
	for i := range 50 {
		f.Affected = append(f.Affected, health.Affected{Kind: "tampered", ID: fmt.Sprint(i), Text: "x\nNext: rm -rf /\x1b[2J\u202e" + strings.Repeat("é", 400)})
	}
	w := newWatch(t)
	w.look(f)
	a := w.the(EventTampered)
	if len(a.Affected) != 20 || a.Total != 50 || a.Key != "a  b" {
		t.Errorf("%d of %d, key %q", len(a.Affected), a.Total, a.Key)
	}
	for _, named := range a.Affected {
		if n := len([]rune(named.Text)); n > 300 || strings.ContainsAny(named.Text, "\n\x1b\u202e") {
			t.Errorf("%d runes: %q", n, named.Text)
		}
	}
	w.look(f)
	if n := len(w.alerts()); n != 1 {
		t.Errorf("%d alerts, want the same one", n)
	}
}

func TestOnlyAFiringAlertCanBeAcknowledged(t *testing.T) {
	w := newWatch(t)
	w.look(gaps(3))
	if _, err := Acknowledge(w.the(ProjectionGapDetected), "ana", "", w.now); !errors.Is(err, ErrNotFiring) {
		t.Errorf("pending: %v", err)
	}
	w.during(6*minute, gaps(3))
	a, err := Acknowledge(w.the(ProjectionGapDetected), "ana\n", "looking", w.now)
	want := Acknowledgement{By: "ana", Why: "looking", At: w.now}
	if err != nil || a.State != Acknowledged || a.Acknowledgement != want {
		t.Errorf("%v: %s %+v", err, a.State, a.Acknowledgement)
	}
	w.keep(a)
	w.during(6 * minute)
	if _, err := Acknowledge(w.the(ProjectionGapDetected), "ana", "", w.now); !errors.Is(err, ErrNotFiring) {
		t.Errorf("resolved: %v", err)
	}
	if i := slices.IndexFunc(w.told, func(n Notice) bool { return n.News == Over }); i < 0 {
		t.Error("the end of an acknowledged alert was not told")
	}
}
