package alert

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// Channel is one way of telling people: an address, a hook, a log.
type Channel struct {
	Name string
	// Rung is the channel's place on the ladder: 0 is told at once, each further one
	// when nobody has acknowledged for another hour.
	Rung  int
	Langs []Lang // both where none is named
	// Limit is how many messages may go out in Window; 0: any number. What is over it
	// waits, and goes out as a digest. What is to be told at once does not wait.
	Limit int
}

// LastRung is the highest rung that a channel is on.
func LastRung(channels []Channel) (last int) {
	for _, c := range channels {
		last = max(last, c.Rung)
	}
	return last
}

// Delivery is a notice on its way over a channel. It is done when a send that
// carried it succeeded, so a receiver may get it twice, and never not at all.
type Delivery struct {
	ID          uuid.UUID `json:"id"`
	Alert       uuid.UUID `json:"alertId"`
	Store       uuid.UUID `json:"storeId"`
	Channel     string    `json:"channel"`
	Message     Message   `json:"message"`
	Attempts    int       `json:"attempts"`
	NextAttempt time.Time `json:"nextAttempt"`
	LastError   string    `json:"lastError,omitempty"`
	DoneAt      time.Time `json:"doneAt,omitzero"`
	// Alone: a digest with it was refused for what it says, so it goes by itself. One
	// message that a receiver cannot stand must not keep back all others.
	Alone bool `json:"alone,omitempty"`
}

// Deliver makes a delivery of each notice for each channel that it is told to.
func Deliver(notices []Notice, channels []Channel) []Delivery {
	var deliveries []Delivery
	for _, n := range notices {
		for _, c := range channels {
			if c.Rung > n.Rung || n.News == Escalated && c.Rung < n.Rung {
				continue
			}
			message := Render(n, c.Langs...)
			deliveries = append(deliveries, Delivery{
				ID: uuid.NewSHA1(message.ID, []byte(c.Name)), Alert: n.Alert.ID, Store: n.Alert.Store, Channel: c.Name,
				Message: message, NextAttempt: n.At,
			})
		}
	}
	return deliveries
}

// ErrRefused: a receiver will not take a message, whenever it is sent, for what is
// in it.
var ErrRefused = errors.New("the message was refused")

// Batch is one message, and the deliveries that it carries.
type Batch struct {
	Message    Message
	Deliveries []Delivery
}

// Sent are its deliveries after a send that succeeded. They are done at one time, by
// which messages that went out can be counted.
func (b Batch) Sent(now time.Time) []Delivery {
	return b.after(func(d *Delivery) { d.DoneAt, d.LastError = now, "" })
}

// Failed are its deliveries after a send that did not.
func (b Batch) Failed(now time.Time, err error) []Delivery {
	return b.after(func(d *Delivery) {
		d.LastError, d.NextAttempt = line(err.Error()), now.Add(NextAttempt(d.Attempts))
		d.Alone = d.Alone || errors.Is(err, ErrRefused)
	})
}

func (b Batch) after(change func(*Delivery)) []Delivery {
	deliveries := make([]Delivery, len(b.Deliveries))
	for i, d := range b.Deliveries {
		d.Attempts++
		change(&d)
		deliveries[i] = d
	}
	return deliveries
}

// NextAttempt is how long to wait after so many failed attempts: ten seconds after
// the first, twice as long after each further one, at most a quarter of an hour, so
// that what was held up by a line is told soon after it is back.
func NextAttempt(attempts int) time.Duration {
	const first, most = 10 * time.Second, 15 * time.Minute
	if attempts > 7 { // 10 s · 2^7 > 15 min
		return most
	}
	return min(first<<max(attempts-1, 0), most)
}
