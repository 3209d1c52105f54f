// Package fleet is a simulated chain of stores. A Shop trades and yields the
// events that a Velox POS backend would have stored; Insert and Backend put them
// and their read models into a database; faults spoil a store in ways that are
// known, and say what is to come of it; Fold is the truth that a healed read
// model is held against.
//
// It promises to be reproducible: everything follows from a seed and a start
// time, and no clock is read. Payloads are made in jsonb's own text, so an event
// straight from a Shop is byte for byte what Postgres gives back.
package fleet
