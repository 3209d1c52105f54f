package postgres

// Fenced and Transact let a test hold a write open.
var (
	Fenced   = (*DB).fenced
	Transact = (*DB).transact
)
