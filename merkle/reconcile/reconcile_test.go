package reconcile

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

func TestWhatIsForgottenReadsAsUnknown(t *testing.T) {
	var report Report
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var read struct{ Verdict Verdict }
	if err := json.Unmarshal(text, &read); err != nil || read.Verdict != Unknown || (Report{}).Verdict.String() != "unknown" {
		t.Errorf("%s reads as %v (%v)", text, read.Verdict, err)
	}
	if err := json.Unmarshal([]byte(`{"Verdict": "fine"}`), &read); err == nil {
		t.Error("an unknown verdict was read")
	}
}

func TestARootSurvivesTheWireAndNothingElseDoes(t *testing.T) {
	root := Root{Count: 7, Digest: merkle.Short{1, 2, 5: 0xff}}
	text, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	var read Root
	if err := json.Unmarshal(text, &read); err != nil || read != root {
		t.Errorf("%s reads as %v (%v)", text, read, err)
	}
	for _, odd := range []string{`{"count": 7, "digest": "00ff"}`, `{"count": 7, "digest": "xyz"}`, `{"count": -1, "digest": ""}`, `[]`} {
		if err := json.Unmarshal([]byte(odd), &read); err == nil {
			t.Errorf("%s was read as a root", odd)
		}
	}
}

func TestOnlyAnswersToWhatWasSentCount(t *testing.T) {
	sent := []velox.Event{{ID: uuid.New()}, {ID: uuid.New()}}
	good := []Outcome{{Event: sent[1].ID, Status: Stored}, {Event: sent[0].ID, Status: Present}}
	if _, err := answersTo(sent, good); err != nil {
		t.Error(err)
	}
	for name, outcomes := range map[string][]Outcome{
		"one is missing":          good[:1],
		"one is answered twice":   {good[0], good[0]},
		"another event is listed": append([]Outcome{{Event: uuid.New(), Status: Purged}}, good...),
	} {
		if _, err := answersTo(sent, outcomes); !errors.Is(err, merkle.ErrHostile) {
			t.Errorf("%s: %v, want ErrHostile", name, err)
		}
	}
}
