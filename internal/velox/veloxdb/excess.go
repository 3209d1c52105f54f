package veloxdb

import "fmt"

// grant is rights that the role must not hold, and through whom it holds them.
type grant struct {
	Object  string // "table debts", "schema public"
	Target  string // as a command names it
	Rights  string // "DELETE, TRUNCATE"
	Through string // the grantee; "" for everybody
	Owner   string // of the object
}

// excessSQL finds what the role could do beyond its task: removing rows of any
// POS table, and making objects in public. A right may have come directly, by
// membership, by ownership, or from PUBLIC; that of pg_write_all_data is in no
// list of rights.
const excessSQL = `
WITH held AS (
    SELECT 'table ' || c.relname AS object, 'public.' || quote_ident(c.relname) AS target,
           acl.privilege_type, acl.grantee, c.relowner AS owner
    FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) acl
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
      AND acl.privilege_type IN ('DELETE', 'TRUNCATE')
    UNION ALL
    SELECT 'schema public', 'SCHEMA public', acl.privilege_type, acl.grantee, n.nspowner
    FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) acl
    WHERE n.nspname = 'public' AND acl.privilege_type = 'CREATE'
    UNION ALL
    SELECT 'table ' || c.relname, 'public.' || quote_ident(c.relname), 'DELETE', w.oid, c.relowner
    FROM pg_class c, pg_roles w
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p') AND w.rolname = 'pg_write_all_data'
)
SELECT object, target, string_agg(DISTINCT privilege_type, ', ' ORDER BY privilege_type) AS rights,
       CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee)::text END AS through,
       pg_get_userbyid(owner)::text AS owner
FROM held
WHERE CASE grantee WHEN 0 THEN true ELSE pg_has_role(grantee, 'USAGE') END
GROUP BY object, target, grantee, owner
ORDER BY object, through`

func (g grant) problem(f facts) Problem {
	p := Problem{Kind: KindExcess, Object: g.Object, Detail: fmt.Sprintf("role %s holds %s", f.Role, g.Rights)}
	switch g.Through {
	case f.Role:
		p.Fix = fmt.Sprintf("REVOKE %s ON %s FROM %s", g.Rights, g.Target, ident(f.Role))
		if g.Owner == f.Role {
			p.Detail += " as the owner"
			p.Fix = "connect as reconciled_runtime"
		}
	case "":
		p.Detail += " through PUBLIC"
		p.Fix = fmt.Sprintf("REVOKE %s ON %s FROM PUBLIC", g.Rights, g.Target)
		if g.Rights == "CREATE" { // PUBLIC had it before Postgres 15, and the POS may live on it
			p.Fix = "GRANT CREATE ON SCHEMA public to the owner of the POS tables, then REVOKE CREATE ON SCHEMA public FROM PUBLIC"
		}
	default:
		p.Detail += " through role " + g.Through
		p.Fix = fmt.Sprintf("REVOKE %s FROM %s", ident(g.Through), ident(f.Role))
	}
	return p
}
