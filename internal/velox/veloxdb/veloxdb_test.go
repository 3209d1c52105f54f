package veloxdb_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox/veloxdb"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

func exec(t *testing.T, database, sql string) {
	t.Helper()
	if err := testkit.Shared(t).Exec(t.Context(), database, sql); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, user, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), testkit.Shared(t).URL(user, database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func rolesSQL(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../../deploy/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var template sync.Once

// site returns a new database as a site has it: the POS tables made by velox,
// the roles by a superuser, who ran the file twice.
func site(t *testing.T) string {
	t.Helper()
	server := testkit.Shared(t)
	template.Do(func() {
		exec(t, "postgres", "CREATE ROLE velox LOGIN")
		if err := server.CreateDatabase(t.Context(), "site", ""); err != nil {
			t.Fatal(err)
		}
		exec(t, "site", "GRANT CREATE ON SCHEMA public TO velox")
		conn, err := pgx.Connect(t.Context(), server.URL("velox", "site"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := veloxdb.Create(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		exec(t, "site", rolesSQL(t))
		exec(t, "site", rolesSQL(t))
	})
	name := strings.ToLower(strings.NewReplacer("/", " ", "_", " ").Replace(t.Name()))
	name = name[max(0, len(name)-60):]
	if err := server.CreateDatabase(t.Context(), name, "site"); err != nil {
		t.Fatal(err)
	}
	return name
}

func check(t *testing.T, user, database string, o veloxdb.Options) []string {
	t.Helper()
	problems, err := veloxdb.Check(t.Context(), connect(t, user, database), o)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return lines
}

func TestACompleteDatabasePasses(t *testing.T) {
	if problems := check(t, "reconciled_runtime", site(t), veloxdb.Options{}); len(problems) != 0 {
		t.Errorf("problems:\n%s", strings.Join(problems, "\n"))
	}
}

func TestEveryProblemIsNamedWithWhatMendsIt(t *testing.T) {
	for _, c := range []struct {
		name, breakage string
		want           []string
	}{
		{"drift", "ALTER TABLE events DROP COLUMN projection_status, DROP COLUMN projection_error", []string{
			"table events: column projection_error is missing (type text); mend with: ALTER TABLE public.events ADD COLUMN projection_error text",
			"table events: column projection_status is missing (type text); mend with: ALTER TABLE public.events ADD COLUMN projection_status text NOT NULL DEFAULT 'pending'",
		}},
		{"dropped column", "ALTER TABLE sales DROP COLUMN voided_at CASCADE", []string{
			"table sales: column voided_at is missing (type timestamptz); mend with: run the migrations of the POS",
		}},
		{"dropped table", "DROP TABLE stock_escrow", []string{
			"table stock_escrow: is missing; mend with: run the migrations of the POS",
		}},
		{"wrong type", "ALTER TABLE debts ALTER COLUMN amount_usd DROP DEFAULT, ALTER COLUMN amount_usd TYPE double precision", []string{
			"table debts: column amount_usd has type double precision, not numeric; mend with: ALTER TABLE public.debts ALTER COLUMN amount_usd TYPE numeric USING amount_usd::numeric",
		}},
		{"widened within its family", "ALTER TABLE outbox_entries ALTER COLUMN retry_count TYPE bigint, ALTER COLUMN event_type TYPE text", []string{}},
		{"no table that not every database has", "DROP TABLE product_lots CASCADE", []string{}},
		{"no select", "REVOKE SELECT ON warehouses FROM reconciled_runtime", []string{
			`table warehouses: role reconciled_runtime lacks SELECT; mend with: GRANT SELECT ON public.warehouses TO "reconciled_runtime"`,
		}},
		{"no insert", "REVOKE INSERT ON sale_items FROM reconciled_runtime", []string{
			`table sale_items: role reconciled_runtime lacks INSERT; mend with: GRANT INSERT ON public.sale_items TO "reconciled_runtime"`,
		}},
		{"no update of one column", "REVOKE UPDATE (projection_error) ON events FROM reconciled_runtime", []string{
			`table events: role reconciled_runtime lacks UPDATE (projection_error); mend with: GRANT UPDATE (projection_error) ON public.events TO "reconciled_runtime"`,
		}},
		{"no use of public", "REVOKE USAGE ON SCHEMA public FROM PUBLIC, reconciled_runtime", []string{
			`schema public: role reconciled_runtime lacks USAGE; mend with: GRANT USAGE ON SCHEMA public TO "reconciled_runtime"`,
		}},
		{"delete granted", "GRANT DELETE, TRUNCATE ON debts TO reconciled_runtime", []string{
			`table debts: role reconciled_runtime holds DELETE, TRUNCATE; mend with: REVOKE DELETE, TRUNCATE ON public.debts FROM "reconciled_runtime"`,
		}},
		{"delete for everybody, on a table that is not needed", "CREATE TABLE more (); GRANT DELETE ON more TO PUBLIC", []string{
			"table more: role reconciled_runtime holds DELETE through PUBLIC; mend with: REVOKE DELETE ON public.more FROM PUBLIC",
		}},
		{"events may be changed", "GRANT UPDATE (payload, seq) ON events TO reconciled_runtime", []string{
			`table events: role reconciled_runtime holds UPDATE (payload, seq); mend with: REVOKE UPDATE ON public.events FROM "reconciled_runtime"; GRANT UPDATE (projection_status, projection_error) ON public.events TO "reconciled_runtime"`,
		}},
		{"create granted", "GRANT CREATE ON SCHEMA public TO reconciled_runtime", []string{
			`schema public: role reconciled_runtime holds CREATE; mend with: REVOKE CREATE ON SCHEMA public FROM "reconciled_runtime"`,
		}},
		{"create for everybody", "GRANT CREATE ON SCHEMA public TO PUBLIC", []string{
			"schema public: role reconciled_runtime holds CREATE through PUBLIC; mend with: GRANT CREATE ON SCHEMA public to the owner of the POS tables, then REVOKE CREATE ON SCHEMA public FROM PUBLIC",
		}},
		{"no schema", "DROP SCHEMA reconciled", []string{
			"schema reconciled: is missing; mend with: run deploy/roles.sql as a superuser in database testeveryproblemisnamedwithwhatmendsit no schema",
		}},
		{"schema closed", "REVOKE USAGE ON SCHEMA reconciled FROM reconciled_runtime", []string{
			`schema reconciled: role reconciled_runtime lacks USAGE; mend with: GRANT USAGE ON SCHEMA reconciled TO "reconciled_runtime"`,
		}},
		{"several at once", "DROP TABLE stock_escrow; ALTER TABLE debts DROP COLUMN parent_debt_id; GRANT DELETE ON sales TO reconciled_runtime", []string{
			"table debts: column parent_debt_id is missing (type uuid); mend with: ALTER TABLE public.debts ADD COLUMN parent_debt_id uuid",
			"table stock_escrow: is missing; mend with: run the migrations of the POS",
			`table sales: role reconciled_runtime holds DELETE; mend with: REVOKE DELETE ON public.sales FROM "reconciled_runtime"`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := site(t)
			exec(t, database, c.breakage)
			if diff := cmp.Diff(c.want, check(t, "reconciled_runtime", database, veloxdb.Options{})); diff != "" {
				t.Errorf("problems (- want, + got):\n%s", diff)
			}
		})
	}
}

func TestARoleUnderRowSecurityIsRefusedForEachTable(t *testing.T) {
	database := site(t)
	exec(t, database, "ALTER ROLE reconciled_runtime NOBYPASSRLS")
	t.Cleanup(func() {
		if err := testkit.Shared(t).Exec(context.Background(), database, "ALTER ROLE reconciled_runtime BYPASSRLS"); err != nil {
			t.Error(err)
		}
	})
	var want []string
	for _, table := range []string{"stores", "product_variants", "customers", "sale_items", "warehouse_stock", "inventory_movements", "invoice_series", "fiscal_invoices"} {
		want = append(want, "table "+table+": row level security is active for role reconciled_runtime: it would see gaps that are none; "+
			`mend with: ALTER ROLE "reconciled_runtime" BYPASSRLS`)
	}
	if diff := cmp.Diff(want, check(t, "reconciled_runtime", database, veloxdb.Options{})); diff != "" {
		t.Errorf("problems (- want, + got):\n%s", diff)
	}
}

func TestADatabaseWithoutAnEncodingIsRefused(t *testing.T) {
	site(t)
	exec(t, "postgres", "CREATE DATABASE ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE 'C'")
	want := "database ascii: encoding is SQL_ASCII, not UTF8; mend with: createdb --template=template0 --encoding=UTF8 and restore a dump there"
	problems := check(t, "reconciled_runtime", "ascii", veloxdb.Options{})
	if len(problems) == 0 || problems[0] != want {
		t.Errorf("first problem %q, want %q", problems, want)
	}
}

func TestRolesThatNothingRestrainsAreRefused(t *testing.T) {
	database := site(t)
	want := []string{"role postgres: is a superuser, whom no right restrains; mend with: connect as reconciled_runtime"}
	if diff := cmp.Diff(want, check(t, "postgres", database, veloxdb.Options{})); diff != "" {
		t.Errorf("as superuser (- want, + got):\n%s", diff)
	}

	owner := strings.Join(check(t, "velox", database, veloxdb.Options{}), "\n")
	if want := "table debts: role velox holds DELETE, TRUNCATE as the owner; mend with: connect as reconciled_runtime"; !strings.Contains(owner, want) {
		t.Errorf("as owner: %s\nlacks %s", owner, want)
	}

	exec(t, database, `CREATE ROLE member LOGIN BYPASSRLS IN ROLE velox; CREATE ROLE writer LOGIN IN ROLE pg_write_all_data`)
	member := strings.Join(check(t, "member", database, veloxdb.Options{}), "\n")
	if want := `table debts: role member holds DELETE, TRUNCATE through role velox; mend with: REVOKE "velox" FROM "member"`; !strings.Contains(member, want) {
		t.Errorf("as member of the owner: %s\nlacks %s", member, want)
	}
	writer := strings.Join(check(t, "writer", database, veloxdb.Options{}), "\n")
	if want := `table debts: role writer holds DELETE through role pg_write_all_data; mend with: REVOKE "pg_write_all_data" FROM "writer"`; !strings.Contains(writer, want) {
		t.Errorf("as writer of all data: %s\nlacks %s", writer, want)
	}
}

func TestAnObserverNeedsNoRightToWrite(t *testing.T) {
	database := site(t)
	exec(t, database, "REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM reconciled_runtime")
	if problems := check(t, "reconciled_runtime", database, veloxdb.Options{Observe: true}); len(problems) != 0 {
		t.Errorf("problems:\n%s", strings.Join(problems, "\n"))
	}
	if problems := check(t, "reconciled_runtime", database, veloxdb.Options{}); len(problems) == 0 {
		t.Error("one that writes passes, too")
	}
}

// The rights as the server enforces them, whatever the check believes.
func TestTheRolesCanDoTheirTaskAndNoMore(t *testing.T) {
	database := site(t)
	const denied = "42501" // insufficient_privilege
	for _, c := range []struct{ role, sql, code string }{
		{"reconciled_runtime", "DELETE FROM debts", denied},
		{"reconciled_runtime", "TRUNCATE outbox_entries", denied},
		{"reconciled_runtime", "DELETE FROM events", denied},
		{"reconciled_runtime", "UPDATE events SET payload = '{}'", denied},
		{"reconciled_runtime", "UPDATE events SET projection_status = 'processed', projection_error = NULL", ""},
		{"reconciled_runtime", "UPDATE sales SET fiscal_number = fiscal_number", ""},
		{"reconciled_runtime", "UPDATE sale_items SET qty = 1, weight_value = NULL", ""},
		{"reconciled_runtime", "UPDATE sale_items SET sale_id = sale_id", denied},
		{"reconciled_runtime", "UPDATE debt_payments SET amount_usd = 1, debt_id = debt_id", ""},
		{"reconciled_runtime", "UPDATE debt_payments SET fx_gain_loss_bs = 1", denied},
		{"reconciled_runtime", "UPDATE cash_ledger_entries SET amount_bs = 1", ""},
		{"reconciled_runtime", "UPDATE cash_ledger_entries SET request_id = NULL", denied},
		{"reconciled_runtime", "UPDATE inventory_movements SET qty_delta = 1, variant_id = NULL", ""},
		{"reconciled_runtime", "UPDATE inventory_movements SET approved = false", denied},
		{"reconciled_runtime", "SELECT FROM product_lots", ""},
		{"reconciled_runtime", "UPDATE outbox_entries SET status = 'pending', error = NULL, retry_count = 0, processed_at = NULL", ""},
		{"reconciled_runtime", "UPDATE outbox_entries SET target = ''", denied},
		{"reconciled_runtime", "INSERT INTO stores (id, name) VALUES (gen_random_uuid(), '')", denied},
		{"reconciled_runtime", "CREATE TABLE public.x ()", denied},
		{"reconciled_runtime", "CREATE TABLE reconciled.x ()", denied},
		{"reconciled_runtime", "CREATE SCHEMA x", denied},
		{"reconciled_migrator", "CREATE TABLE public.x ()", denied},
		{"reconciled_migrator", "DELETE FROM sales", denied},
		{"reconciled_migrator", "UPDATE events SET projection_status = ''", denied},
		{"reconciled_migrator", "UPDATE events SET payload = '{}'", ""},
		{"reconciled_migrator", "DELETE FROM events", denied},
		{"reconciled_migrator", "UPDATE inventory_movements SET qty_delta = 1", denied},
		{"reconciled_migrator", "DELETE FROM recipe_ingredients; SELECT FROM recipe_ingredients, products", ""},
		{"reconciled_migrator", "DELETE FROM debt_payments; DELETE FROM debts; SELECT FROM debts FOR UPDATE; SELECT FROM sales, sale_items, events", ""},
		{"reconciled_migrator", `CREATE FUNCTION reconciled.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER t AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION reconciled.f();
			CREATE TRIGGER t AFTER DELETE ON sale_items FOR EACH ROW EXECUTE FUNCTION reconciled.f()`, ""},
	} {
		conn := connect(t, c.role, database)
		_, err := conn.PgConn().Exec(t.Context(), c.sql).ReadAll()
		code := ""
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
			code = pgErr.Code
		} else if err != nil {
			t.Fatal(err)
		}
		if code != c.code {
			t.Errorf("%s: %s: SQLSTATE %q (%v), want %q", c.role, c.sql, code, err, c.code)
		}
	}
}

func TestRolesCanBeMadeBeforeThePOSHasAllItsTables(t *testing.T) {
	site(t)
	if err := testkit.Shared(t).CreateDatabase(t.Context(), "early", ""); err != nil {
		t.Fatal(err)
	}
	exec(t, "early", rolesSQL(t))
	problems := check(t, "reconciled_runtime", "early", veloxdb.Options{})
	if len(problems) == 0 || problems[0] != "table stores: is missing; mend with: run the migrations of the POS" {
		t.Errorf("problems: %q", problems)
	}
}

func TestCreateIsAllOrNothing(t *testing.T) {
	site(t)
	if err := testkit.Shared(t).CreateDatabase(t.Context(), "half", ""); err != nil {
		t.Fatal(err)
	}
	exec(t, "half", "CREATE TABLE recipe_ingredients ()")
	conn := connect(t, "postgres", "half")
	if err := veloxdb.Create(t.Context(), conn); err == nil {
		t.Fatal("created over a table of the same name")
	}
	var tables int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != 1 {
		t.Errorf("%d tables after a failed create, want the one that was there", tables)
	}
}

func TestProductStockIsTheSumOfTheLedger(t *testing.T) {
	database := site(t)
	exec(t, database, `
		INSERT INTO stores (id, name) VALUES ('00000000-0000-4000-8000-000000000001', 's');
		INSERT INTO products (id, store_id, name) SELECT '00000000-0000-4000-8000-000000000002', id, 'p' FROM stores;
		INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at)
		SELECT gen_random_uuid(), store_id, id, 'adjust', d, now() FROM products, (VALUES (2.5), (-4)) AS v (d)`)
	var stock string
	if err := connect(t, "velox", database).QueryRow(t.Context(), "SELECT stock::text FROM product_stock").Scan(&stock); err != nil {
		t.Fatal(err)
	}
	if stock != "-1.500" {
		t.Errorf("stock %s, want -1.500", stock)
	}
}
