package testkit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/veloxpos/reconciled/internal/testkit"
)

const patience = 30 * time.Second

func query[T any](t *testing.T, p *testkit.Postgres, database, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL("postgres", database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func start(t *testing.T, o testkit.PostgresOptions) *testkit.Postgres {
	t.Helper()
	p, err := testkit.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func startRedis(t *testing.T, o testkit.RedisOptions) (*testkit.Redis, *redis.Client) {
	t.Helper()
	r, err := testkit.StartRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: r.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() {
		client.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, client
}

func TestAClusterIsUTF8AndTakesManyStatementsAtOnce(t *testing.T) {
	p := testkit.Shared(t)
	if got := query[string](t, p, "postgres", "SHOW server_encoding"); got != "UTF8" {
		t.Errorf("server encoding %s, want UTF8", got)
	}
	if err := p.CreateDatabase(t.Context(), "many", ""); err != nil {
		t.Fatal(err)
	}
	if err := p.Exec(t.Context(), "many", "CREATE TABLE t (i int); INSERT INTO t VALUES (1), (2)"); err != nil {
		t.Fatal(err)
	}
	if err := p.CreateDatabase(t.Context(), "many too", "many"); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, p, "many too", "SELECT sum(i) FROM t"); got != 3 {
		t.Errorf("the copy's rows sum up to %d, want 3", got)
	}
}

func TestKillLosesNoCommittedRow(t *testing.T) {
	p := start(t, testkit.PostgresOptions{Settings: map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
	}})
	if got := query[string](t, p, "postgres", "SHOW fsync"); got != "on" {
		t.Fatalf("fsync is %s, want the setting on", got)
	}
	if err := p.Exec(t.Context(), "postgres", "CREATE TABLE t (i int); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	open, err := pgx.Connect(t.Context(), p.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(context.Background())
	if _, err := open.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}

	before := p.URL("postgres", "postgres")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("a backend survived the kill")
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := p.URL("postgres", "postgres"); after != before {
		t.Errorf("came back at %s, was at %s", after, before)
	}
	if got := query[string](t, p, "postgres", "SELECT string_agg(i::text, ',') FROM t"); got != "1" {
		t.Errorf("rows %s, want the committed 1 alone", got)
	}
}

func TestKillEndsABackendThatNeverLooksUp(t *testing.T) {
	p := start(t, testkit.PostgresOptions{})
	busy, err := pgx.Connect(t.Context(), p.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "DO $$ BEGIN LOOP END LOOP; END $$")
		ended <- err
	}()
	testkit.Eventually(t, patience, "the loop runs", func() bool {
		return query[bool](t, p, "postgres", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %')")
	})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the loop ended in good order")
	}
}

func TestAStoppedClusterStartsAgainInItsDirectory(t *testing.T) {
	// t.TempDir is closed to the user that runs the server when we are root.
	dir, err := os.MkdirTemp("", "testkit-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })

	p := start(t, testkit.PostgresOptions{Dir: dir})
	if err := p.Exec(t.Context(), "postgres", "CREATE TABLE kept ()"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := start(t, testkit.PostgresOptions{Dir: dir})
	if got := query[int](t, again, "postgres", "SELECT count(*) FROM kept"); got != 0 {
		t.Errorf("%d rows, want none", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); err != nil {
		t.Errorf("close removed a directory that was given: %v", err)
	}
}

func TestTwoClustersStartAtOnceWithoutACachedTemplate(t *testing.T) {
	cache := t.TempDir()
	for path := cache; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", cache)

	var wg sync.WaitGroup
	clusters, errs := make([]*testkit.Postgres, 2), make([]error, 2)
	for i := range clusters {
		wg.Go(func() { clusters[i], errs[i] = testkit.StartPostgres(t.Context(), testkit.PostgresOptions{}) })
	}
	wg.Wait()
	for i, p := range clusters {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		defer p.Close()
		if got := query[int](t, p, "postgres", "SELECT 1"); got != 1 {
			t.Errorf("cluster %d does not answer", i)
		}
	}
	if clusters[0].Addr() == clusters[1].Addr() {
		t.Errorf("both listen on %s", clusters[0].Addr())
	}
}

func TestMissingProgramsAreNamedWithTheirPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := testkit.StartRedis(t.Context(), testkit.RedisOptions{})
	if want := `start redis: program not installed: install the package "redis-server"`; !errors.Is(err, testkit.ErrMissingBinary) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	_, err = testkit.StartAlertmanager(t.Context())
	if want := `start alertmanager: program not installed: install the package "prometheus-alertmanager"`; !errors.Is(err, testkit.ErrMissingBinary) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	_, err = testkit.StartPostgres(t.Context(), testkit.PostgresOptions{BinDir: t.TempDir()})
	if !errors.Is(err, testkit.ErrMissingBinary) {
		t.Errorf("got %v, want ErrMissingBinary", err)
	}
}

func TestRedisKeepsItsKeysThroughAKillOnlyWhenTold(t *testing.T) {
	for _, persist := range []bool{true, false} {
		r, client := startRedis(t, testkit.RedisOptions{Persist: persist})
		if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Error("a killed server answers")
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got string
		testkit.Eventually(t, patience, "an answer after the restart", func() bool {
			v, err := client.Get(t.Context(), "k").Result()
			got = v
			return err == nil || errors.Is(err, redis.Nil)
		})
		if (got == "v") != persist {
			t.Errorf("persist %v: key is %q after kill and start", persist, got)
		}
	}
}

func TestAPausedRedisAnswersOnlyOnceResumed(t *testing.T) {
	r, client := startRedis(t, testkit.RedisOptions{})
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a paused server answers")
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "an answer after resume", func() bool { return client.Ping(t.Context()).Err() == nil })

	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Errorf("stop of a paused server: %v", err)
	}
}

// orphanMaker in the environment makes the test binary start servers, print
// their addresses, and wait to be killed.
const orphanMaker = "TESTKIT_MAKE_ORPHANS"

func makeOrphans() {
	p, err := testkit.StartPostgres(context.Background(), testkit.PostgresOptions{Dir: os.Getenv(orphanMaker)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r, err := testkit.StartRedis(context.Background(), testkit.RedisOptions{Dir: os.Getenv(orphanMaker)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Addr())
	fmt.Println(r.Addr())
	select {}
}

func TestServersDieWithTheProcessThatStartedThem(t *testing.T) {
	dir, err := os.MkdirTemp("", "testkit-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orphanMaker+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for lines := bufio.NewScanner(out); len(addrs) < 2 && lines.Scan(); {
		addrs = append(addrs, lines.Text())
	}
	for _, addr := range addrs {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("server does not run: %v", err)
		}
		conn.Close()
	}
	if len(addrs) != 2 {
		t.Fatalf("servers did not start: %v", addrs)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, addr := range addrs {
		testkit.Eventually(t, patience, addr+" refuses connections", func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
}
