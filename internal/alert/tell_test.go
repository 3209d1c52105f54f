package alert

import (
	"testing"
	"time"
)

func TestAnHourWithoutAnAnswerGoesUpARung(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3)) // fires at the sixth look
	expect(t, "within the hour", w.during(59*minute, gaps(3)))
	for _, rung := range []int{1, 2} {
		told := w.look(gaps(3))
		expect(t, "after an hour", told, "escalated PROJECTION_GAP_DETECTED")
		if told[0].Rung != rung {
			t.Errorf("told to rung %d, want %d", told[0].Rung, rung)
		}
		expect(t, "within the next", w.during(59*minute, gaps(3)))
	}
	expect(t, "at the top of the ladder", w.during(20*time.Hour, gaps(3)))
}

func TestAcknowledgingStopsTheEscalationAndNotTheRecord(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3))
	w.acknowledge(ProjectionGapDetected)
	expect(t, "acknowledged", w.during(23*time.Hour, gaps(3)))
	if a := w.the(ProjectionGapDetected); a.State != Acknowledged || a.Acknowledgement.By != "ana" {
		t.Errorf("%+v", a)
	}
	expect(t, "a day after it was told", w.during(2*time.Hour, gaps(3)), "reminder PROJECTION_GAP_DETECTED")
	w.during(5 * minute)
	expect(t, "its end", w.look(), "resolved PROJECTION_GAP_DETECTED")
}

func TestWhatDoublesIsToldAgainAndNeedsAnotherAnswer(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3))
	w.acknowledge(ProjectionGapDetected)
	expect(t, "a few more", w.during(5*minute, gaps(5)))
	expect(t, "twice as many", w.look(gaps(6)), "grew PROJECTION_GAP_DETECTED")
	if a := w.the(ProjectionGapDetected); a.State != Firing {
		t.Errorf("%s: the answer was given for less", a.State)
	}
	expect(t, "up and down below that", append(w.during(5*minute, gaps(2)), w.during(54*minute, gaps(11))...))
	expect(t, "an hour after it grew", w.look(gaps(11)), "escalated PROJECTION_GAP_DETECTED")
}

func TestWhatGrowsIsHeldAgainstTheMostThatWasTold(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 0
	w.during(6*minute, gaps(12))
	expect(t, "a day with fewer", w.during(25*time.Hour, gaps(3)), "reminder PROJECTION_GAP_DETECTED")
	expect(t, "not more than there were", w.during(10*minute, gaps(12)))

	w.during(6 * minute)
	expect(t, "back, and fewer", w.during(6*minute, gaps(3)), "back PROJECTION_GAP_DETECTED")
	expect(t, "twice what came back", w.look(gaps(6)), "grew PROJECTION_GAP_DETECTED")

	expect(t, "twice nothing is nothing", newWatch(t).during(30*minute, Finding{Code: EventTampered}), "fired EVENT_TAMPERED")
}

func TestWhatWasAcknowledgedIsKnown(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3))
	w.look(gaps(5))
	w.acknowledge(ProjectionGapDetected)
	expect(t, "not twice what was acknowledged", w.look(gaps(9)))
	expect(t, "twice what was acknowledged", w.look(gaps(10)), "grew PROJECTION_GAP_DETECTED")
}

func TestEachFurtherSaleWithTheSameFiscalNumberIsToldAndAnAgeIsNot(t *testing.T) {
	w := newWatch(t)
	w.look(duplicate("A/1", "s1", "s2"))
	expect(t, "a third sale", w.look(duplicate("A/1", "s1", "s2", "s3")), "grew FISCAL_DUPLICATE")

	w = newWatch(t)
	late := Finding{Code: ScheduleLate, Key: "heal", Value: 600, Threshold: 300}
	w.during(16*minute, late)
	w.acknowledge(ScheduleLate)
	for range 20 {
		late.Value *= 2
		w.look(late)
	}
	expect(t, "an age grows by itself", w.told, "fired SCHEDULE_LATE")
}

func TestRemindersComeOnceADay(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 0
	w.during(6*minute, gaps(3))
	expect(t, "three days", w.during(72*time.Hour, gaps(3)),
		"reminder PROJECTION_GAP_DETECTED", "reminder PROJECTION_GAP_DETECTED", "reminder PROJECTION_GAP_DETECTED")
}

func TestAFiscalDuplicateIsToldToEverybodyAtOnce(t *testing.T) {
	w := newWatch(t)
	told := w.look(duplicate("A/1", "s1", "s2"))
	expect(t, "the first look", told, "fired FISCAL_DUPLICATE")
	if told[0].Rung != 2 {
		t.Errorf("told up to rung %d, want all", told[0].Rung)
	}
	expect(t, "nobody is left to escalate to", w.during(3*time.Hour, duplicate("A/1", "s1", "s2")))
}

func TestNothingKeepsAFiscalDuplicateQuiet(t *testing.T) {
	for _, grave := range []Finding{of(DatabaseDown), of(FederationOffline), {Code: FederationCritical, Value: 1, Causes: []Code{FiscalDuplicate}}} {
		w := newWatch(t)
		w.during(10*minute, grave)
		expect(t, "during "+string(grave.Code), w.look(grave, duplicate("A/1", "s1", "s2")), "fired FISCAL_DUPLICATE")
		w.blind(23*time.Hour, []Code{grave.Code}, grave)
		told := w.blind(2*time.Hour, []Code{grave.Code}, grave)
		expect(t, "a day later, not measured", told[:1], "reminder FISCAL_DUPLICATE")
		if a := w.the(FiscalDuplicate); a.InhibitedBy != "" {
			t.Errorf("inhibited by %s", a.InhibitedBy)
		}
	}
}

func TestACriticalStoreIsToldOnceAndItsCausesAreRecorded(t *testing.T) {
	w := newWatch(t)
	critical := Finding{Code: FederationCritical, Value: 2, Causes: []Code{ProjectionGapDetected, OversellingDetected}}
	oversold := Finding{Code: OversellingDetected, Value: 9}
	told := w.during(30*minute, gaps(12), oversold, critical)
	expect(t, "half an hour of it", told, "fired FEDERATION_CRITICAL")
	for _, code := range critical.Causes {
		if a := w.the(code); a.State != Firing || a.InhibitedBy != FederationCritical {
			t.Errorf("%s is %s, inhibited by %q", code, a.State, a.InhibitedBy)
		}
	}
	expect(t, "what is not a cause", w.look(gaps(12), oversold, critical, of(EventTampered)), "fired EVENT_TAMPERED")
}

func TestACauseThatTheMessageDidNotNameIsToldByItself(t *testing.T) {
	w := newWatch(t)
	w.during(10*minute, gaps(12), Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}})
	both := Finding{Code: FederationCritical, Value: 2, Causes: []Code{EventTampered, ProjectionGapDetected}}
	expect(t, "a new cause", w.look(gaps(12), both, of(EventTampered)), "fired EVENT_TAMPERED")

	w = newWatch(t)
	w.during(10*minute, gaps(12), of(EventTampered), both)
	expect(t, "cleared", w.during(time.Hour, gaps(12), both)[:1], "resolved EVENT_TAMPERED")
	expect(t, "and again, of which nobody has read", w.look(gaps(12), both, of(EventTampered)), "fired EVENT_TAMPERED")
}

func TestACauseThatGrowsBeyondWhatWasReadOfItIsToldByItself(t *testing.T) {
	altered := func(n int64) Finding { return Finding{Code: EventTampered, Value: n, Total: n} }
	critical := Finding{Code: FederationCritical, Value: 1, Causes: []Code{EventTampered}}
	w := newWatch(t)
	w.during(10*minute, altered(1), critical)
	w.acknowledge(EventTampered)
	w.acknowledge(FederationCritical)
	expect(t, "as it was", w.during(time.Hour, altered(1), critical))
	expect(t, "ten thousand", w.look(altered(10_000), critical), "grew EVENT_TAMPERED")
	expect(t, "nobody answers of those", w.during(time.Hour, altered(10_000), critical), "escalated EVENT_TAMPERED")

	critical.Causes = []Code{ProjectionGapDetected}
	w = newWatch(t)
	w.during(10*minute, gaps(12), critical) // told of the store alone
	expect(t, "more, and not twice as many", w.during(10*minute, gaps(23), critical))
	expect(t, "twice as many for a moment", append(w.during(4*minute, gaps(24), critical), w.during(10*minute, gaps(12), critical)...))
	expect(t, "twice as many", w.during(6*minute, gaps(24), critical), "fired PROJECTION_GAP_DETECTED")
	expect(t, "not twice as many again", w.during(10*minute, gaps(47), critical))
	expect(t, "and twice as many again", w.look(gaps(48), critical), "grew PROJECTION_GAP_DETECTED")
}

func TestWhatEveryMessageOfACriticalStoreSaidOfItsCausesIsKnown(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 0
	critical := Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}}
	w.during(10*minute, gaps(12), critical)
	expect(t, "a day later, and some more", w.during(24*time.Hour, gaps(20), critical), "reminder FEDERATION_CRITICAL")
	expect(t, "not twice what was read then", w.during(10*minute, gaps(39), critical))
	expect(t, "twice", w.during(6*minute, gaps(40), critical), "fired PROJECTION_GAP_DETECTED")
	expect(t, "a day later", w.during(24*time.Hour, gaps(40), critical), "reminder FEDERATION_CRITICAL")

	w = newWatch(t)
	both := Finding{Code: FederationCritical, Value: 2, Causes: []Code{FiscalDuplicate}}
	w.during(5*minute, duplicate("A/1", "s1", "s2"), both)
	expect(t, "of a third sale nobody has read", w.look(duplicate("A/1", "s1", "s2", "s3"), both), "fired FEDERATION_CRITICAL", "grew FISCAL_DUPLICATE")
}

func TestACauseWhoseEndWasToldIsToldWhenItIsBack(t *testing.T) {
	critical := Finding{Code: FederationCritical, Value: 2, Causes: []Code{EventTampered, ProjectionGapDetected}}
	w := newWatch(t)
	w.during(10*minute, gaps(12), of(EventTampered), critical)
	expect(t, "over", w.look(gaps(12), critical), "resolved EVENT_TAMPERED")
	expect(t, "and back", w.look(gaps(12), of(EventTampered), critical), "back EVENT_TAMPERED")
}

// What is slow at central, for one, is told by no alert but that the store is critical.
func TestACriticalStoreWithACauseThatNothingElseTellsOfIsNews(t *testing.T) {
	with := func(causes ...Code) Finding {
		causes = append(causes, ProjectionGapDetected)
		return Finding{Code: FederationCritical, Value: int64(len(causes)), Causes: causes}
	}
	w := newWatch(t)
	w.during(6*minute, gaps(12), with())
	w.acknowledge(FederationCritical)
	expect(t, "one that is an alert of its own", w.during(9*minute, gaps(12), with(OutboxDead)))
	for range 20 {
		expect(t, "slow for a moment", append(w.during(4*minute, gaps(12), with("REMOTE_SLOW")), w.look(gaps(12), with())...))
	}
	expect(t, "slow", w.during(6*minute, gaps(12), with("REMOTE_SLOW")), "grew FEDERATION_CRITICAL")
	if a := w.the(FederationCritical); a.State != Firing {
		t.Errorf("%s: the answer was given for less", a.State)
	}
	w.lastRung = 0
	said := len(w.told)
	for range 40 {
		w.during(6*minute, gaps(12), with("CONFLICT_RATE"))
		w.during(6*minute, gaps(12), with("REMOTE_SLOW"))
	}
	expect(t, "a second one, and what comes and goes", w.told[said:], "grew FEDERATION_CRITICAL")
}

func TestTroublesThatFollowEachOtherAreNotACriticalStore(t *testing.T) {
	w := newWatch(t)
	for range 30 {
		w.during(3*minute, Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}})
		w.during(3*minute, Finding{Code: FederationCritical, Value: 1, Causes: []Code{"REMOTE_SLOW"}})
	}
	expect(t, "one after another", w.told)
	w.during(3*minute, Finding{Code: FederationCritical, Value: 2, Causes: []Code{ProjectionGapDetected, OutboxDead}})
	expect(t, "one of two stays", w.during(3*minute, Finding{Code: FederationCritical, Value: 1, Causes: []Code{OutboxDead}}), "fired FEDERATION_CRITICAL")
}

func TestWhatStillStandsWhenItIsNoLongerKeptQuietIsTold(t *testing.T) {
	w := newWatch(t)
	critical := Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}}
	w.during(10*minute, gaps(12), critical)
	w.during(5*minute, gaps(4))
	expect(t, "critical no more", w.look(gaps(4)), "resolved FEDERATION_CRITICAL")
	if a := w.the(ProjectionGapDetected); a.InhibitedBy != "" {
		t.Errorf("inhibited by %s", a.InhibitedBy)
	}
	expect(t, "it has its own time again", w.during(4*minute, gaps(4)))
	expect(t, "and stands", w.look(gaps(4)), "fired PROJECTION_GAP_DETECTED")

	w = newWatch(t)
	w.during(10*minute, gaps(12), critical)
	w.during(7*minute, gaps(4))
	expect(t, "gone within its time", w.during(20*minute))
}

func TestAnEndIsToldToWhoeverWasToldOfTheBeginning(t *testing.T) {
	w := newWatch(t)
	expect(t, "before it is critical", w.during(6*minute, gaps(3)), "fired PROJECTION_GAP_DETECTED")
	critical := Finding{Code: FederationCritical, Value: 2, Causes: []Code{ProjectionGapDetected, OutboxDead}}
	w.during(6*minute, gaps(5), critical)
	w.acknowledge(FederationCritical)
	expect(t, "nobody answers of the gaps, but they are kept quiet", w.during(2*time.Hour, gaps(5), critical))
	expect(t, "over, while quiet", w.during(6*minute, critical), "resolved PROJECTION_GAP_DETECTED")
}

func TestTheHourCountsFromWhenAnAlertMaySpeak(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3))
	w.during(2*time.Hour, gaps(3), Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}})
	expect(t, "it may speak again", w.during(6*minute, gaps(3)), "resolved FEDERATION_CRITICAL")
	expect(t, "within an hour", w.during(59*minute, gaps(3)))
	expect(t, "after it", w.look(gaps(3)), "escalated PROJECTION_GAP_DETECTED")
}

func TestWithoutALineTheExchangeBeingLateIsNoNews(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 0
	late, heal := Finding{Code: ScheduleLate, Key: KeyReconcile, Value: 1800}, Finding{Code: ScheduleLate, Key: "heal", Value: 1800}
	told := w.during(50*minute, of(FederationOffline), late, heal)
	expect(t, "both are late", told, "fired FEDERATION_OFFLINE", "fired SCHEDULE_LATE")
	if told[1].Alert.Key != "heal" {
		t.Errorf("told of %s", told[1].Alert.Key)
	}
	w.during(6*minute, late, heal)
	expect(t, "the line is back, and the next round is on its way", w.during(10*minute, late, heal))
	expect(t, "it came", w.during(10*minute, heal))
}

func TestWithoutADatabaseOnlyThatIsTold(t *testing.T) {
	w := newWatch(t)
	w.during(6*minute, gaps(3))
	measured := []Code{DatabaseDown, DiskLow}
	told := w.blind(30*time.Hour, measured, of(DatabaseDown), of(DiskLow))
	expect(t, "a day and more", told[:2], "fired DATABASE_DOWN", "fired DISK_LOW")
	for _, n := range told {
		if n.Alert.Code == ProjectionGapDetected {
			t.Errorf("told that gaps %s, which nobody can see", n.News)
		}
	}
	if a := w.the(ProjectionGapDetected); a.State != Firing || a.InhibitedBy != DatabaseDown {
		t.Errorf("%s, inhibited by %q", a.State, a.InhibitedBy)
	}
}

func TestAfterAnOutageWhatWasPendingHasItsTimeAgain(t *testing.T) {
	w := newWatch(t)
	w.during(2*minute, gaps(1))
	w.blind(time.Hour, []Code{DatabaseDown}, of(DatabaseDown))
	w.during(3*minute, gaps(40)) // nothing was healed meanwhile
	expect(t, "healed soon after", append(w.told, w.during(10*minute)...)[1:], "resolved DATABASE_DOWN")

	w = newWatch(t)
	w.during(2*minute, gaps(1))
	w.blind(time.Hour, []Code{DatabaseDown}, of(DatabaseDown))
	expect(t, "not healed", w.during(6*minute, gaps(40)), "resolved DATABASE_DOWN", "fired PROJECTION_GAP_DETECTED")
}
