package daemon

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

// A round is late by its last success, not by when the daemon was started. A healing that
// found nothing to do is not in the history, which says nothing of how late the next is.
func TestARestartDoesNotMakeALateRoundPunctual(t *testing.T) {
	site := postgrestest.New(t)
	site.AddStore(t, shop)
	runs := postgres.NewRuns(site.DB)
	ended := func(task, state string, ago time.Duration) postgres.Run {
		at := time.Now().Add(-ago)
		return postgres.Run{ID: uuid.New(), Task: task, Store: shop, Trigger: BySchedule, State: state, Started: at, Finished: at}
	}
	monitor := func() *Monitor {
		m := NewMonitor(postgres.NewHealth(postgres.NewLog(site.DB)), runs, MonitorOptions{Mode: health.Normal})
		m.expect([]*Task{{Name: TaskReconcile, Schedule: cron.Every(10 * time.Minute)}, {Name: TaskHeal, Schedule: cron.Every(time.Minute)}})
		return m
	}
	late := func(m *Monitor) (tasks []string) {
		report, err := m.Measure(t.Context(), shop)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range report.Details {
			if a.Kind == "late" {
				tasks = append(tasks, a.ID+": "+a.Text)
			}
		}
		return tasks
	}
	if tasks := late(monitor()); len(tasks) != 0 {
		t.Errorf("late before there ever was a round: %q", tasks)
	}
	for _, run := range []postgres.Run{
		ended(TaskHeal, "succeeded", 48*time.Hour), ended(TaskReconcile, "succeeded", 48*time.Hour), ended(TaskReconcile, "failed", time.Minute),
	} {
		if err := runs.Save(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	m := monitor()
	if tasks := late(m); len(tasks) != 1 || !strings.HasPrefix(tasks[0], "reconcile: no good end for 48h") {
		t.Errorf("late are %q, want reconcile, for two days", tasks)
	}
	m.note(shop, ended(TaskReconcile, "interrupted", 0)) // in quiet hours
	if tasks := late(m); len(tasks) != 0 {
		t.Errorf("late after it has run: %q", tasks)
	}
}

func TestATaskIsLateAlsoByAClockThatWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMonitor(&gone{}, unwritten{}, MonitorOptions{})
		m.expect([]*Task{{Name: TaskHeal, Schedule: cron.Every(time.Minute)}})
		m.note(shop, postgres.Run{Task: TaskHeal, State: "succeeded", Finished: time.Now()})
		time.Sleep(time.Hour)
		duty := m.duties(shop, health.Snapshot{At: time.Now().UTC().Add(-3 * time.Hour)})[0]
		if shown := time.Now().UTC().Add(-3 * time.Hour); duty.Since != time.Hour || !duty.Due.Before(shown) {
			t.Errorf("at %v it is due at %v, after %v", shown, duty.Due, duty.Since)
		}
	})
}
