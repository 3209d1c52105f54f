// Package deploy is what installs reconciled: roles, units, images and an
// annotated configuration. It is Go only so that the program can carry the files
// that it needs itself.
package deploy

import _ "embed"

// Roles is the SQL that makes the daemon's two roles and its schema, to be run by
// a superuser inside the POS database.
//
//go:embed roles.sql
var Roles string
