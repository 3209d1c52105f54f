package alert

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s:\n%s", path, diff)
	}
}

func written(m Message) string { return "Subject: " + m.Subject + "\n\n" + m.Text }

func TestAMessageSaysWhatWhereSinceWhenHowMuchAndWhatToDo(t *testing.T) {
	w := newWatch(t)
	told := w.look(duplicate("5e000000-0000-4000-8000-000000000001/00000017", "aaaa", "bbbb"))
	golden(t, "fired.txt", written(Render(told[0])))

	w = newWatch(t)
	oversold := Finding{Code: OversellingDetected, Value: 23, Total: 23}
	for _, name := range []string{"Papel: -4", "Café: -1"} {
		oversold.Affected = append(oversold.Affected, health.Affected{Kind: "negative_stock", ID: "77777777-7777-4777-8777-777777777777", Text: name})
	}
	w.during(16*minute, oversold)
	w.during(5 * minute)
	w.look()
	w.during(5*minute, oversold)
	w.acknowledge(OversellingDetected)
	told = w.during(25*time.Hour, oversold)
	golden(t, "reminder.es.txt", written(Render(told[1], ES)))

	w.during(31 * minute)
	golden(t, "resolved.en.txt", written(Render(w.told[len(w.told)-1], EN)))
}

func TestAMessageIsJSONForMachines(t *testing.T) {
	told := newWatch(t).look(duplicate("5e/00000017", "aaaa", "bbbb"))
	text, err := json.MarshalIndent(Render(told[0], ES), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "fired.json", string(text)+"\n")
}

func TestEveryCodeCanBeToldInBothLanguages(t *testing.T) {
	for code := range catalogue {
		for _, news := range []News{Fired, Back, Grew, Escalated, Reminder, Over, Still} {
			for _, lang := range []Lang{ES, EN} {
				m := Render(Notice{News: news, At: noon, Alert: Alert{Store: centro, Code: code, State: Firing, Value: 7, Since: noon}}, lang)
				if strings.Contains(m.Text+m.Subject, "%!") || strings.Contains(m.Subject, "[]") || strings.Contains(m.Text, ":  \n") ||
					strings.Count(m.Text, "\n\n") != 1 || strings.Contains(m.Subject, "  ") || len([]rune(m.Subject)) > 200 {
					t.Errorf("%s %s in %s:\n%s", news, code, lang, written(m))
				}
			}
		}
	}
}

func TestNobodyIsToldThatSomethingWasTriedWhereNothingMayBeWritten(t *testing.T) {
	for mode, tried := range map[health.Mode]bool{health.Normal: true, health.Observe: false, health.Paused: false} {
		report := judged(func(s *health.Snapshot) {
			s.Mode, s.More.OutboxDead = mode, 2
			if mode == health.Paused {
				s.Mode, s.Pause = health.Normal, &health.Pause{Until: noon.Add(time.Hour), By: "ana", Why: "x"}
			}
		})
		w := newWatch(t)
		var told []Notice
		for range 11 {
			w.now = w.now.Add(minute)
			changed, notices := Step(w.now, w.alerts(), Find(report), 0)
			w.keep(changed...)
			told = append(told, notices...)
		}
		expect(t, string(mode), told, "fired OUTBOX_DEAD")
		text := Render(told[0]).Text
		if strings.Contains(text, "se curan desde el registro") != tried || strings.Contains(text, "healed from the log") != tried ||
			strings.Contains(text, "mode: observe") == tried {
			t.Errorf("in mode %s:\n%s", mode, text)
		}
	}
}

func TestAMessageHasTheSameIDEachTimeAndAnotherForOtherNews(t *testing.T) {
	w := newWatch(t)
	w.lastRung = 0
	told := append(w.during(6*minute, gaps(3)), w.during(49*time.Hour, gaps(3))...)
	expect(t, "two days", told, "fired PROJECTION_GAP_DETECTED", "reminder PROJECTION_GAP_DETECTED", "reminder PROJECTION_GAP_DETECTED")
	seen := map[uuid.UUID]bool{}
	for _, n := range told {
		if Render(n).ID != Render(n, EN).ID {
			t.Error("the id depends on the rendering")
		}
		seen[Render(n).ID] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d ids for three messages", len(seen))
	}
}

func TestWhatStandsIsToldAgainToReceiversThatForget(t *testing.T) {
	w := newWatch(t)
	if _, ok := Standing(w.now, w.alerts()); ok {
		t.Error("there is nothing to tell")
	}
	critical := Finding{Code: FederationCritical, Value: 1, Causes: []Code{ProjectionGapDetected}}
	w.during(6*minute, gaps(12))
	w.during(6*minute, gaps(12), critical, of(LockBackendDegraded))
	w.during(6*minute, gaps(12), critical)
	if by := w.the(ProjectionGapDetected).InhibitedBy; by != FederationCritical {
		t.Fatalf("gaps are kept quiet by %q", by)
	}
	w.look(gaps(12), critical, duplicate("5e/17", "a", "b"), of(LostUpdate), of(LockBackendDegraded))
	standing := map[Code]bool{}
	for _, a := range w.alerts() {
		standing[a.Code] = a.Stands()
	}
	if want := map[Code]bool{
		ProjectionGapDetected: true, FederationCritical: true, LockBackendDegraded: true, FiscalDuplicate: true, LostUpdate: false,
	}; !maps.Equal(standing, want) {
		t.Fatalf("standing: %v", standing)
	}
	m, ok := Standing(w.now, w.alerts())
	if !ok {
		t.Fatal("nothing stands")
	}
	told := map[Code]bool{}
	for _, i := range m.Items {
		told[i.Code] = true
		if i.News != Still || i.State != Firing {
			t.Errorf("%+v", i)
		}
	}
	// Not what has just come back or is pending; but what was told before it was kept
	// quiet: whoever is not told of it again would take it for over.
	if want := map[Code]bool{ProjectionGapDetected: true, FederationCritical: true, FiscalDuplicate: true}; !maps.Equal(told, want) {
		t.Errorf("told again: %v", told)
	}
}
