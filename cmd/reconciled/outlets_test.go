package main

import (
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/config"
)

func TestTheLadderHasNoRungWithNobodyOnIt(t *testing.T) {
	list, err := outlets(config.Alerts{Mail: config.Mail{
		Relay: "mail.example:25", From: "a@example", To: []string{"ops@example", "sre@example"},
		Escalate: []string{"sre@example", "lead@example", "lead@example", "boss@example"},
	}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	rungs := map[string]int{}
	var channels []alert.Channel
	for _, outlet := range list {
		rungs[outlet.Name] = outlet.Rung
		channels = append(channels, outlet.Channel)
	}
	got := []int{rungs["mail ops@example"], rungs["mail sre@example"], rungs["mail lead@example"], rungs["mail boss@example"], alert.LastRung(channels)}
	if want := []int{0, 0, 1, 2, 2}; !slices.Equal(got, want) || len(list) != 5 {
		t.Errorf("the rungs of ops, sre, lead and boss, and the last: %v, want %v, over %d channels", got, want, len(list))
	}
}
