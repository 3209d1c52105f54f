package veloxdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Querier is a pgx connection, pool or transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Options says what the database is to be used for.
type Options struct {
	// Observe asks for no right to write POS tables: nothing is healed.
	Observe bool
}

// Kind groups problems by what mends them.
type Kind string

// The kinds of problems, and who mends them.
const (
	KindDatabase Kind = "database" // how the database was made: its administrator
	KindSchema   Kind = "schema"   // tables and columns: migrations of the POS
	KindRole     Kind = "role"     // attributes of the role: a superuser
	KindMissing  Kind = "missing"  // a right that is needed: deploy/roles.sql
	KindExcess   Kind = "excess"   // a right that must not be: its administrator
)

// Problem is one thing that keeps this program from working on a database.
type Problem struct {
	Kind   Kind
	Object string // "table events"
	Detail string // "column projection_status is missing (type text)"
	Fix    string // the command that mends it
}

// String is one line: object, detail and fix.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; mend with: %s", p.Object, p.Detail, p.Fix)
}

// facts are those of the session, in one row.
type facts struct {
	Database     string
	Encoding     string
	Role         string
	Superuser    bool
	PublicUse    bool
	Reconciled   bool // schema exists
	ReconciledUs bool // and the role may use it
}

const factsSQL = `
SELECT d.datname::text AS database, pg_encoding_to_char(d.encoding)::text AS encoding, r.rolname::text AS role, r.rolsuper AS superuser,
       coalesce(has_schema_privilege(to_regnamespace('public'), 'USAGE'), false) AS public_use,
       to_regnamespace('reconciled') IS NOT NULL AS reconciled,
       coalesce(has_schema_privilege(to_regnamespace('reconciled'), 'USAGE'), false) AS reconciled_us
FROM pg_database d, pg_roles r
WHERE d.datname = current_database() AND r.rolname = current_user`

// Check looks at the database as the current role, which is to be the one that
// works on it later, and returns every problem found, in a stable order; none
// means that it is fit. It changes nothing. The error is that of a query.
func Check(ctx context.Context, q Querier, o Options) ([]Problem, error) {
	f, err := one[facts](ctx, q, factsSQL)
	if err != nil {
		return nil, fmt.Errorf("check database: read session: %w", err)
	}
	problems := checkSession(f)

	columns, err := many[column](ctx, q, columnsSQL, tableNames())
	if err != nil {
		return nil, fmt.Errorf("check database: read columns: %w", err)
	}
	for _, n := range needs {
		var of []column
		for _, c := range columns {
			if c.Table == n.table {
				of = append(of, c)
			}
		}
		problems = append(problems, checkTable(n, of, f, o)...)
	}
	if f.Superuser {
		return problems, nil // holds every right there is: said once
	}
	excess, err := many[grant](ctx, q, excessSQL)
	if err != nil {
		return nil, fmt.Errorf("check database: read rights: %w", err)
	}
	for _, g := range excess {
		problems = append(problems, g.problem(f))
	}
	return problems, nil
}

func checkSession(f facts) []Problem {
	var problems []Problem
	add := func(k Kind, object, detail, fix string) {
		problems = append(problems, Problem{k, object, detail, fix})
	}
	if f.Encoding != "UTF8" {
		add(KindDatabase, "database "+f.Database, "encoding is "+f.Encoding+", not UTF8",
			"createdb --template=template0 --encoding=UTF8 and restore a dump there")
	}
	if f.Superuser {
		add(KindRole, "role "+f.Role, "is a superuser, whom no right restrains", "connect as reconciled_runtime")
	}
	if !f.PublicUse {
		add(KindMissing, "schema public", "role "+f.Role+" lacks USAGE", "GRANT USAGE ON SCHEMA public TO "+ident(f.Role))
	}
	switch {
	case !f.Reconciled:
		add(KindSchema, "schema reconciled", "is missing", "run deploy/roles.sql as a superuser in database "+f.Database)
	case !f.ReconciledUs:
		add(KindMissing, "schema reconciled", "role "+f.Role+" lacks USAGE", "GRANT USAGE ON SCHEMA reconciled TO "+ident(f.Role))
	}
	return problems
}

// column is one of a table that is needed, and what the role may do with it.
type column struct {
	Table       string
	Column      string
	Type        string // pg_type's name, of a domain that of its base type
	Shown       string // as SQL writes it
	RowSecurity bool   // of the table
	CanSelect   bool
	CanInsert   bool
	CanUpdate   bool
}

// The catalogue itself: information_schema hides what the role has no right to.
const columnsSQL = `
SELECT c.relname::text AS "table", a.attname::text AS "column",
       coalesce(base.typname, t.typname)::text AS type, format_type(a.atttypid, a.atttypmod) AS shown,
       row_security_active(c.oid) AS row_security,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS can_select,
       has_column_privilege(c.oid, a.attnum, 'INSERT') AS can_insert,
       has_column_privilege(c.oid, a.attnum, 'UPDATE') AS can_update
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type base ON t.typtype = 'd' AND base.oid = t.typbasetype
WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p') AND c.relname = ANY ($1)
ORDER BY c.relname, a.attname`

func checkTable(n need, columns []column, f facts, o Options) []Problem {
	var problems []Problem
	add := func(k Kind, detail, fix string) {
		problems = append(problems, Problem{k, "table " + n.table, detail, fix})
	}
	const migrate = "run the migrations of the POS"
	if len(columns) == 0 {
		if !n.optional {
			add(KindSchema, "is missing", migrate)
		}
		return problems
	}

	names, families := n.all()
	lacks := map[string][]string{}
	for _, name := range names {
		want := families[name]
		i := slices.IndexFunc(columns, func(c column) bool { return c.Column == name })
		if i < 0 {
			fix := migrate
			if definition, ok := drift[n.table+"."+name]; ok {
				fix = fmt.Sprintf("ALTER TABLE public.%s ADD COLUMN %s %s", n.table, name, definition)
			}
			add(KindSchema, fmt.Sprintf("column %s is missing (type %s)", name, want), fix)
			continue
		}
		c := columns[i]
		if !slices.Contains(members[want], c.Type) {
			add(KindSchema, fmt.Sprintf("column %s has type %s, not %s", name, c.Shown, want),
				fmt.Sprintf("ALTER TABLE public.%s ALTER COLUMN %s TYPE %s USING %s::%s", n.table, name, want, name, want))
		}
		for _, r := range []struct {
			right       string
			needed, has bool
		}{
			{"SELECT", true, c.CanSelect},
			{"INSERT", n.insert && !o.Observe, c.CanInsert},
			{"UPDATE", n.updates(name) && !o.Observe, c.CanUpdate},
		} {
			if r.needed && !r.has {
				lacks[r.right] = append(lacks[r.right], name)
			}
		}
	}
	for _, right := range []string{"SELECT", "INSERT", "UPDATE"} {
		if len(lacks[right]) == 0 {
			continue
		}
		what := right
		if len(lacks[right]) < len(names) {
			what += " (" + strings.Join(lacks[right], ", ") + ")"
		}
		add(KindMissing, fmt.Sprintf("role %s lacks %s", f.Role, what),
			fmt.Sprintf("GRANT %s ON public.%s TO %s", what, n.table, ident(f.Role)))
	}
	if columns[0].RowSecurity {
		add(KindRole, "row level security is active for role "+f.Role+": it would see gaps that are none",
			"ALTER ROLE "+ident(f.Role)+" BYPASSRLS")
	}
	if n.fixed && !f.Superuser {
		var open []string
		for _, c := range columns {
			if c.CanUpdate && !n.updates(c.Column) {
				open = append(open, c.Column)
			}
		}
		if len(open) > 0 {
			what := "UPDATE (" + strings.Join(open, ", ") + ")"
			add(KindExcess, fmt.Sprintf("role %s holds %s", f.Role, what),
				fmt.Sprintf("REVOKE UPDATE ON public.%[1]s FROM %[2]s; GRANT UPDATE (%[3]s) ON public.%[1]s TO %[2]s",
					n.table, ident(f.Role), strings.Join(strings.Fields(n.update), ", ")))
		}
	}
	return problems
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func many[T any](ctx context.Context, q Querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

func one[T any](ctx context.Context, q Querier, sql string) (T, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
}
