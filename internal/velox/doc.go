// Package velox holds the vocabulary of a Velox POS event log: the event
// envelope, the 21 event types, the payload hash by which an event proves its
// content, and what "said" means. It does no I/O and knows no database.
package velox
