package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/veloxpos/reconciled/internal/alert"
)

// Whatever an alert or the doctor tells people to type must be there at 3 a.m.
func TestEveryCommandThatPeopleAreToldToTypeIsThere(t *testing.T) {
	told := map[string]string{}
	for _, code := range []alert.Code{
		alert.FederationCritical, alert.ProjectionGapDetected, alert.OversellingDetected, alert.FiscalDuplicate, alert.FederationOffline,
		alert.OutboxDead, alert.EventTampered, alert.EventConflict, alert.LostUpdate, alert.FiscalRangeOverlap, alert.FiscalRangeRegression,
		alert.LockBackendDegraded, alert.ClockSkew, alert.ScheduleLate, alert.CaptureBroken, alert.CloneOrRollback, alert.DiskLow,
		alert.DatabaseDown, alert.StoreSilent,
	} {
		told[string(code)] = alert.KindOf(code).Command(shopID)
	}
	for code, advice := range advised {
		told[code] = strings.ReplaceAll(advice.next, "{store}", shopID.String())
	}
	for code, line := range told {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "reconciled" {
			t.Errorf("%s tells to type %q", code, line)
			continue
		}
		parser, err := kong.New(&cli{}, kong.Name("reconciled"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(words[1:]); err != nil {
			t.Errorf("%s tells to type %q: %v", code, line, err)
		}
	}
}
