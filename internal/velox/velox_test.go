package velox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

// sample reads the real events in testdata/events.jsonl.
func sample(t *testing.T) []Event {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			ID       uuid.UUID       `json:"event_id"`
			Type     Type            `json:"type"`
			At       time.Time       `json:"created_at"`
			Payload  json.RawMessage `json:"payload"`
			Delta    json.RawMessage `json:"delta_payload"`
			Hash     string          `json:"full_payload_hash"`
			Conflict string          `json:"conflict_status"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		events = append(events, Event{
			ID: row.ID, Type: row.Type, CreatedAt: MillisOf(row.At),
			Payload: row.Payload, Delta: row.Delta, Hash: row.Hash, ConflictStatus: row.Conflict,
		})
	}
	if len(events) != 29 {
		t.Fatalf("sample holds %d events, want 29", len(events))
	}
	return events
}

func TestEveryRealEventVerifies(t *testing.T) {
	overwritten := map[string]string{
		"783a6a63-07b3-4e5a-ac4e-77e5bffe910c": "efc9b675115aa76d1fc5e3311f1199d8616d084eb7d539386566af86661ce522",
		"dfe31bbf-d41a-46b9-881b-23318d8703b5": "36c6ae11cba93f5d95393b47b8358a35a474798ea1bc29762b45b12c15e402c3",
	}
	for _, e := range sample(t) {
		if !e.Type.Known() {
			t.Errorf("%s: type %q is not known", e.ID, e.Type)
		}
		winner, lost := overwritten[e.ID.String()]
		want := Intact
		if lost {
			want = Overwritten
			if got, _ := PayloadHash(e.Payload); got != winner {
				t.Errorf("%s: payload hashes to %s, want the winner's %s", e.ID, got, winner)
			}
		}
		if got := e.Verify(); got != want {
			t.Errorf("%s: %v, want %v", e.ID, got, want)
		}
		if got, err := PayloadHash(e.Said()); err != nil || got != e.Hash {
			t.Errorf("%s: what was said hashes to %s (%v), want %s", e.ID, got, err, e.Hash)
		}
	}
}

func TestCanonicalTextOfEdgeVectors(t *testing.T) {
	vectors := []struct{ name, in, canonical, hash string }{
		{
			"array indices first, then UTF-16 order", `{"b":1,"a":{"10":1,"9":2,"a":3,"!":4}}`,
			`{"a":{"9":2,"10":1,"!":4,"a":3},"b":1}`, "57be036b9afac374bebf1cdd9a29f5589bd73c9de4e89f24c2091d76ca74d7fc",
		},
		{
			"numbers", `{"n":[1.0,1.10,-0,1e21,1e-7,0.000001,123456789012345678,1e20]}`,
			`{"n":[1,1.1,0,1e+21,1e-7,0.000001,123456789012345680,100000000000000000000]}`, "c82aa2a4f3d12e3fd191b90d6f863d909d0dde431f2e0e592d9c8d66faa5c871",
		},
		{
			"strings", `{"s":"<é\u2028/\u007f\u0001\t\b\f\"\\>"}`,
			"{\"s\":\"<é\u2028/\u007f\\u0001\\t\\b\\f\\\"\\\\>\"}", "1fc4f5dc03145e286a9c048d4367af112e77cabc33a8123d74e2dad6812a138e",
		},
		{
			"astral keys by UTF-16", `{"\ud83d\ude00":1,"\uffee":2}`,
			"{\"\U0001F600\":1,\"\uffee\":2}", "cda86a39aa13f4f09297af0d55c78cca4c3f85a55acbc96a3d4e4b5ffe20ce0c",
		},
		{"empty delta", `{}`, `{}`, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
	}
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			text, err := Canonical(json.RawMessage(v.in))
			if err != nil {
				t.Fatal(err)
			}
			if string(text) != v.canonical {
				t.Errorf("canonical text %s, want %s", text, v.canonical)
			}
			if got, _ := PayloadHash(json.RawMessage(v.in)); got != v.hash {
				t.Errorf("hash %s, want %s", got, v.hash)
			}
		})
	}
}

func TestCanonicalTextOfOddValues(t *testing.T) {
	for in, want := range map[string]string{
		`{"__proto__":1,"a":null}`:               `{"a":null}`,
		`{"4294967294":1,"4294967295":2,"01":3}`: `{"4294967294":1,"01":3,"4294967295":2}`,
		`[1e400,-1e400,5e-324]`:                  `[null,null,5e-324]`,
		`"\u001f"`:                               `"\u001f"`,
	} {
		if text, err := Canonical(json.RawMessage(in)); err != nil || string(text) != want {
			t.Errorf("%s becomes %s (%v), want %s", in, text, err, want)
		}
	}
	for _, in := range []string{``, `{`, `{} {}`, `nan`} {
		if text, err := Canonical(json.RawMessage(in)); err == nil {
			t.Errorf("%q becomes %s, want an error", in, text)
		}
	}
}

func TestSaidIsWhatTheDeviceSaid(t *testing.T) {
	payload, delta, restored := json.RawMessage(`{"qty": 5}`), json.RawMessage(`{"qty": 7}`), json.RawMessage(`{"qty": 9}`)
	for _, c := range []struct {
		name string
		e    Event
		want json.RawMessage
	}{
		{"the delta", Event{Payload: payload, Delta: delta}, delta},
		{"the payload where the delta is NULL", Event{Payload: payload}, payload},
		{"the payload where the delta is {}", Event{Payload: payload, Delta: json.RawMessage(`{}`)}, payload},
		{"what the other side gave back", Event{Payload: payload, Restored: restored}, restored},
	} {
		if got := c.e.Said(); !bytes.Equal(got, c.want) {
			t.Errorf("said is %s, want %s", got, c.name)
		}
	}
}

func TestACopyThatLostWhatWasSaidKnowsIt(t *testing.T) {
	original := json.RawMessage(`{"qty_delta": -3}`)
	hash, err := PayloadHash(original)
	if err != nil {
		t.Fatal(err)
	}
	lost := Event{Payload: json.RawMessage(`{"qty_delta": 8}`), ConflictStatus: AutoResolved, Hash: hash}
	if !lost.Lost() || lost.Verify() != LostContent {
		t.Errorf("lost=%v verify=%v, want a lost copy", lost.Lost(), lost.Verify())
	}
	if !lost.Restores(original) || lost.Restores(lost.Payload) {
		t.Error("only the original restores a lost copy")
	}
	lost.Restored = original
	if lost.Lost() {
		t.Error("a restored copy is no longer lost")
	}
	tampered := Event{Payload: json.RawMessage(`{"qty_delta": 8}`), ConflictStatus: Resolved, Hash: hash}
	if tampered.Lost() || tampered.Verify() != Corrupt {
		t.Errorf("an unexplained mismatch is %v, want corrupt", tampered.Verify())
	}
	tampered.Restored = original
	if tampered.Verify() != GivenBack {
		t.Errorf("what was decided on is %v, want given back", tampered.Verify())
	}
	winner := Event{Payload: original, ConflictStatus: AutoResolved, Hash: hash}
	if winner.Lost() || winner.Verify() != Intact {
		t.Error("the winner of a conflict has lost nothing")
	}
}

func TestStoreIDHasOneSpelling(t *testing.T) {
	const canonical = "11111111-1111-4111-8111-111111111111"
	if id, err := ParseStoreID(canonical); err != nil || id.String() != canonical {
		t.Errorf("%v, %v", id, err)
	}
	for _, s := range []string{"", "x", "{" + canonical + "}", "urn:uuid:" + canonical, "11111111111141118111111111111111", " " + canonical} {
		if _, err := ParseStoreID(s); err == nil {
			t.Errorf("%q is taken for a store id", s)
		}
	}
}
