package postgres

// Fenced and Transact let a test hold a write open; EachItem and DeclaredItems are
// the two readings of the tree's items.
var (
	Fenced        = (*DB).fenced
	Transact      = (*DB).transact
	EachItem      = eachItem
	DeclaredItems = declaredItems
)
