package alert

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
)

// Message is what one channel is sent in one piece: one notice, or a digest of
// several. Its JSON is what a webhook gets.
type Message struct {
	// ID is the same each time that the same is sent, so that a receiver knows what it
	// has had already.
	ID      uuid.UUID `json:"id"`
	At      time.Time `json:"at"`
	Subject string    `json:"subject"` // one line
	Text    string    `json:"text"`    // lines that end in \n
	Items   []Item    `json:"alerts"`  // in a digest those of most weight first
}

// Item is one notice of a message, with all that its text says.
type Item struct {
	News      News              `json:"news"`
	At        time.Time         `json:"at"` // of the news
	ID        uuid.UUID         `json:"id"` // of the alert
	Code      Code              `json:"code"`
	Key       string            `json:"key,omitempty"`
	Severity  Severity          `json:"severity"`
	State     State             `json:"state"`
	Store     uuid.UUID         `json:"storeId"`
	StoreName string            `json:"storeName,omitempty"`
	Since     time.Time         `json:"since"`
	Resolved  time.Time         `json:"resolvedAt,omitzero"`
	Reopened  int               `json:"reopened,omitempty"`
	Value     int64             `json:"value"`
	Threshold int64             `json:"threshold"`
	Unit      Text              `json:"unit,omitzero"`
	Affected  []health.Affected `json:"affected,omitempty"`
	Total     int64             `json:"total"`
	Title     Text              `json:"title"`
	Meaning   Text              `json:"meaning"`
	Tried     Text              `json:"tried"`
	Command   string            `json:"command"`
	Section   string            `json:"runbookSection"`
	Ack       Acknowledgement   `json:"acknowledgement,omitzero"`
}

// Render is the message of one notice, in the languages that are given, one after
// another; in both, Spanish first, where none is.
func Render(n Notice, langs ...Lang) Message {
	item := itemOf(n)
	langs = orBoth(langs)
	return Message{
		ID: idOf(n), At: n.At, Items: []Item{item},
		Subject: item.Summary(langs[0]),
		Text:    inEach(langs, item.text),
	}
}

// Standing is the message of all that a store's receivers were told and that is not
// over, for one that forgets what it is not told again and takes it for over then. So
// it holds what is kept quiet by now, too. ok is false when there is nothing.
func Standing(now time.Time, alerts []Alert) (message Message, ok bool) {
	var items []Item
	for _, a := range alerts {
		if a.Told.Standing {
			items = append(items, itemOf(Notice{News: Still, At: now, Alert: a}))
		}
	}
	if len(items) == 0 {
		return Message{}, false
	}
	return digest(now, items, []Lang{ES, EN}), true
}

func orBoth(langs []Lang) []Lang {
	if len(langs) == 0 {
		return []Lang{ES, EN}
	}
	return langs
}

func idOf(n Notice) uuid.UUID {
	return uuid.NewSHA1(n.Alert.ID, []byte(string(n.News)+" "+n.At.UTC().Format(time.RFC3339Nano)))
}

func itemOf(n Notice) Item {
	a, kind := n.Alert, n.Alert.kind()
	item := Item{
		News: n.News, At: n.At, ID: a.ID, Code: a.Code, Key: a.Key, Severity: kind.Severity, State: a.State, Store: a.Store, StoreName: a.StoreName,
		Since: a.Since, Resolved: a.Resolved, Reopened: a.Reopened, Value: a.Value, Threshold: a.Threshold, Unit: kind.Unit,
		Affected: a.Affected, Total: a.Total, Title: kind.Title, Meaning: kind.Meaning, Tried: kind.Doing(a.Mode),
		Command: kind.Command(a.Store), Section: kind.Section,
	}
	if a.State == Acknowledged {
		item.Ack = a.Acknowledgement
	}
	return item
}

// store is its name, or its id where that is not known.
func (i Item) store() string { return cmp.Or(i.StoreName, i.Store.String()) }

// where names the store, with its id.
func (i Item) where() string {
	if i.StoreName == "" {
		return i.Store.String()
	}
	return i.StoreName + " (" + i.Store.String() + ")"
}

// brief is what a digest says of an item beside its summary.
func (i Item) brief(lang Lang) string {
	w := words[lang]
	if i.News == Over {
		return fmt.Sprintf("%s: %s", w.until, clock(i.Resolved))
	}
	return fmt.Sprintf("%s: %s. %s: %s", w.since, clock(i.Since), w.next, i.Command)
}

// Summary is an item in one line.
func (i Item) Summary(lang Lang) string {
	which := ""
	if i.Key != "" {
		which = " (" + i.Key + ")"
	}
	w := words[lang]
	return fmt.Sprintf("[%s] %s %s, %s: %s%s", w.severity[i.Severity], i.Code, w.news[i.News], i.store(), i.Title.In(lang), which)
}

// text is an item in full.
func (i Item) text(lang Lang) string {
	w := words[lang]
	var b strings.Builder
	field := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-14s%s\n", label+":", value)
		}
	}
	fmt.Fprintf(&b, "%s\n%s\n\n", i.Summary(lang), i.Meaning.In(lang))
	field(w.why, w.because[i.News])
	field(w.where, i.where())
	field(w.which, i.Key)
	field(w.since, clock(i.Since))
	field(w.until, clock(i.Resolved))
	if i.Reopened > 0 {
		field(w.again, strconv.Itoa(i.Reopened))
	}
	field(w.value, fmt.Sprintf(w.against, strings.TrimSpace(fmt.Sprintf("%d %s", i.Value, i.Unit.In(lang))), i.Threshold))
	if i.Ack.By != "" {
		field(w.taken, fmt.Sprintf("%s, %s: %s", i.Ack.By, clock(i.Ack.At), i.Ack.Why))
	}
	if len(i.Affected) > 0 {
		field(w.affected, fmt.Sprintf(w.of, len(i.Affected), i.Total))
		for _, a := range i.Affected {
			fmt.Fprintf(&b, "  %s\n", strings.Join(strings.Fields(a.Kind+" "+a.ID+" "+a.Text), " "))
		}
	}
	field(w.tried, i.Tried.In(lang))
	if i.News != Over {
		field(w.next, i.Command)
	}
	field(w.runbook, i.Section)
	return b.String()
}

// clock prints a time as UTC: a store's clock and an operator's differ in zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// inEach joins what is said in each language.
func inEach(langs []Lang, say func(Lang) string) string {
	var said []string
	for _, lang := range langs {
		said = append(said, say(lang))
	}
	return strings.Join(said, "\n"+strings.Repeat("-", 72)+"\n\n")
}
