package postgres

// Fenced lets a test hold a fenced write open.
var Fenced = (*DB).fenced
