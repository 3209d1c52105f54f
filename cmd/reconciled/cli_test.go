package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/stage"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// ran is a command's exit code and what it wrote.
type ran struct {
	code     int
	out, err string
}

func cmd(t *testing.T, args ...string) ran {
	t.Helper()
	var out, err bytes.Buffer
	code := run(t.Context(), args, map[string]string{}, &out, &err)
	return ran{code, out.String(), err.String()}
}

// file writes a configuration and returns its path.
func file(t *testing.T, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reconciled.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const storeConfig = `
database: {url: %q}
central: {url: %q}
api: {listen: "%s", token: admin}
stores: [5eed0000-0000-4000-8000-000000000001]
credentials: [{store: 5eed0000-0000-4000-8000-000000000001, token: t}]
`

// unused is an address where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (r ran) want(t *testing.T, code int, says ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d: %s%s", r.code, code, r.out, r.err)
	}
	for _, part := range says {
		if !strings.Contains(r.out+r.err, part) {
			t.Errorf("does not say %q: %s%s", part, r.out, r.err)
		}
	}
}

func TestBadInputHasItsExitCodeAndItsMessage(t *testing.T) {
	site := postgrestest.New(t)
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Bienvenido</html>")
	}))
	t.Cleanup(html.Close)
	url := site.Server.URL("reconciled_runtime", site.Name)
	good := file(t, storeConfig, url, html.URL, unused(t))
	site.AddStore(t, shopID)

	cmd(t, "--config", good, "check-config").want(t, exitOK, "good for `reconciled run`")
	cmd(t, "--config", file(t, storeConfig+"sotres: []\n", url, html.URL, ":1"), "check-config").want(t, exitConfig, "sotres")
	cmd(t, "--config", good, "check-config", "--for", "central").want(t, exitConfig, "serve.listen")
	cmd(t, "--config", "/nonexistent/x.yaml", "check-config").want(t, exitConfig, "/nonexistent/x.yaml")
	cmd(t, "--config", good, "reconcile", "--store", "tienda-1").want(t, exitTrouble, "--store", "tienda-1")
	cmd(t, "--config", good, "reconcile").want(t, exitTrouble, "text/html", "captive portal")
	cmd(t, "--config", file(t, storeConfig, "postgres://reconciled_runtime@127.0.0.1:1/velox", html.URL, unused(t)), "reconcile").
		want(t, exitTrouble, "127.0.0.1:1")
	cmd(t, "--config", file(t, storeConfig, "postgres://u:s3cret@[::1", html.URL, unused(t)), "run").want(t, exitTrouble, "database url")
	cmd(t, "--config", file(t, storeConfig, site.Server.URL("reconciled_runtime", "nowhere"), html.URL, unused(t)), "run").
		want(t, exitTrouble, "nowhere") // it answers: nothing to wait for
	cmd(t, "--config", good, "health").want(t, exitTrouble, "no daemon answers")
	cmd(t, "--config", good, "dance").want(t, exitTrouble, "dance")
	cmd(t, "version").want(t, exitOK, "reconciled")
	if r := cmd(t, "--config", file(t, storeConfig, "postgres://u:s3cret@127.0.0.1:1/x", html.URL, unused(t)), "reconcile"); strings.Contains(r.err, "s3cret") {
		t.Errorf("a password was printed: %s", r.err)
	}
}

func TestAnUnfitDatabaseIsNamedBeforeItIsTouched(t *testing.T) {
	site := postgrestest.New(t)
	if err := site.Server.Exec(t.Context(), site.Name, `ALTER TABLE events DROP COLUMN projection_error; GRANT DELETE ON sales TO reconciled_runtime`); err != nil {
		t.Fatal(err)
	}
	path := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", path, "run").want(t, exitConfig, "projection_error", "DELETE")
}

func TestASchemaOfAnotherReleaseIsNamed(t *testing.T) {
	site := postgrestest.New(t)
	if err := site.Server.Exec(t.Context(), site.Name, `DELETE FROM reconciled.schema_version WHERE version_id = (SELECT max(version_id) FROM reconciled.schema_version)`); err != nil {
		t.Fatal(err)
	}
	path := file(t, storeConfig, site.Server.URL("reconciled_runtime", site.Name), "http://127.0.0.1:1", unused(t))
	cmd(t, "--config", path, "run").want(t, exitConfig, "reconciled migrate")
}

func TestCommandsWorkWithAndWithoutADaemon(t *testing.T) {
	c := newChain(t, stage.Options{}, 600, fleet.Outage(fleet.Central, 200))
	c.start(c.Central)
	cmd(t, "--config", c.Store.Config, "reconcile", "--store", shopID.String()).want(t, exitOK, "repaired", "200 stored")
	cmd(t, "--config", c.Store.Config, "heal", "--store", shopID.String(), "--full").want(t, exitOK, "0 failed")
	c.start(c.Store)
	r := ran{code: exitHeld}
	for end := time.Now().Add(5 * time.Minute); r.code == exitHeld && time.Now().Before(end); { // by the daemon's own first tasks
		r = cmd(t, "--config", c.Store.Config, "reconcile", "--store", shopID.String(), "--output", "json")
	}
	var report reconcile.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != exitOK || report.Verdict != reconcile.InSync || report.Here != report.There {
		t.Errorf("exit %d, %+v, %v: %s", r.code, report, err, r.err)
	}
	cmd(t, "--config", c.Store.Config, "health", "--store", shopID.String()).want(t, exitOK, "healthy")
}

func TestAMigratedDatabaseStaysAsItIs(t *testing.T) {
	c := newChain(t, stage.Options{}, 0)
	cmd(t, "--config", c.Store.Config, "migrate").want(t, exitOK, "up to date")
}

func TestCentralAwaitsAStoreThatNeverCalled(t *testing.T) {
	c := newChain(t, stage.Options{}, 0)
	c.start(c.Central)
	if n := c.number(c.super(c.Central), `SELECT count(*) FROM reconciled.heard WHERE store_id = $1`, shopID); n != 1 {
		t.Errorf("%d stores awaited, want 1", n)
	}
}
