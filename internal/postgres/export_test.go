package postgres

// Fenced and Transact let a test hold a write open; EachItem and DeclaredItems are
// the two readings of the tree's items.
var (
	Fenced        = (*DB).fenced
	Transact      = (*DB).transact
	Accepting     = (*DB).unpaused
	EachItem      = eachItem
	DeclaredItems = declaredItems
)

// EnlistTouched is a statement whose plan counts, ByPayload what is set for it.
const (
	EnlistTouched = enlistTouched
	ByPayload     = byPayload
)
