package notify_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/alert/notify"
	"github.com/veloxpos/reconciled/internal/testkit"
)

// shown is an alert as Alertmanager shows it.
type shown struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// standing are a store's alerts that Alertmanager takes for active.
func standing(t *testing.T, server *testkit.Alertmanager, store uuid.UUID) []shown {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(server.URL() + "/api/v2/alerts?filter=" + url.QueryEscape(`store="`+store.String()+`"`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var alerts []shown
	if err := json.NewDecoder(answer.Body).Decode(&alerts); err != nil {
		t.Fatal(err)
	}
	return alerts
}

func alertmanager(t *testing.T, server *testkit.Alertmanager, hold time.Duration) *notify.Alertmanager {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	a, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: server.URL() + "/", Hold: hold, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAlertmanagerShowsWhatFiresAndNotWhatIsOver(t *testing.T) {
	server := testkit.SharedAlertmanager(t)
	a := alertmanager(t, server, 0)
	one := gap()
	one.Code, one.Key = alert.FiscalDuplicate, "5e/17"
	two := one
	two.ID, two.Key = uuid.New(), "5e/18"
	for _, fired := range []alert.Alert{one, two} {
		if err := a.Send(t.Context(), alert.Render(news(fired, alert.Fired))); err != nil {
			t.Fatal(err)
		}
	}
	alerts := standing(t, server, one.Store)
	if len(alerts) != 2 {
		t.Fatalf("%d alerts, want one a number: %v", len(alerts), alerts)
	}
	for _, s := range alerts {
		if s.Labels["alertname"] != "FISCAL_DUPLICATE" || s.Labels["severity"] != "critical" || s.Labels["key"] == "" ||
			s.Annotations["store_name"] != "Señal Ñuñoa" || s.Annotations["command"] == "" || !s.StartsAt.Equal(one.Since) {
			t.Errorf("%+v", s)
		}
		if left := time.Until(s.EndsAt); left < 4*time.Minute || left > 6*time.Minute {
			t.Errorf("it ends in %s, want five minutes", left)
		}
	}
	one.State, one.Resolved = alert.Resolved, time.Now().UTC()
	if err := a.Send(t.Context(), alert.Render(news(one, alert.Over))); err != nil {
		t.Fatal(err)
	}
	if alerts = standing(t, server, one.Store); len(alerts) != 1 || alerts[0].Labels["key"] != "5e/18" {
		t.Errorf("%v, want the other one alone", alerts)
	}
}

func TestAlertmanagerForgetsWhatItIsNotToldAgain(t *testing.T) {
	server := testkit.SharedAlertmanager(t)
	kept, forgotten := gap(), gap()
	kept.Told = alert.Told{Standing: true}
	short, long := alertmanager(t, server, time.Second), alertmanager(t, server, time.Minute)
	for _, fired := range []alert.Alert{kept, forgotten} {
		if err := short.Send(t.Context(), alert.Render(news(fired, alert.Fired))); err != nil {
			t.Fatal(err)
		}
	}
	message, ok := alert.Standing(time.Now(), []alert.Alert{kept})
	if !ok {
		t.Fatal("nothing stands")
	}
	if err := long.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the other is forgotten", func() bool { return len(standing(t, server, forgotten.Store)) == 0 })
	if alerts := standing(t, server, kept.Store); len(alerts) != 1 {
		t.Errorf("%v, want the one that was sent again", alerts)
	}
}

func TestAnAlertmanagerThatIsNoneIsAnError(t *testing.T) {
	server := testkit.SharedAlertmanager(t)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	a, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: server.URL() + "/nothing/here", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Send(t.Context(), alert.Render(news(gap(), alert.Fired))); err == nil {
		t.Error("somebody took it")
	}
	if _, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: "localhost:9093"}); err == nil {
		t.Error("an address without a scheme is taken for one")
	}
}
