package reconciled_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/veloxpos/reconciled"

// anything lets a room import every other.
var anything = []string{"*"}

// rooms says which of our own packages each package may import, tests aside.
// ARCHITECTURE.md explains it; a package without a row fails the build.
var rooms = map[string][]string{
	"cmd/reconciled": anything,
	"daemon": {
		"healer", "healer/projection", "merkle/reconcile", "lock", "internal/velox", "internal/postgres", "internal/central",
		"internal/health", "internal/alert", "internal/httpapi", "internal/telemetry",
	},

	"healer":            {"healer/projection", "internal/velox", "lock"},
	"healer/projection": {"internal/velox"},
	"merkle":            {},
	"merkle/reconcile":  {"merkle", "internal/velox", "lock"},
	"lock":              {},
	"lock/locktest":     {"lock"},
	"internal/velox":    {},
	"internal/health":   {},
	"internal/alert":    {"internal/health"},

	"internal/alert/notify":  {"internal/alert"},
	"internal/velox/veloxdb": {"internal/velox"},
	"internal/postgres": {
		"internal/velox", "internal/velox/veloxdb", "healer", "healer/projection", "merkle", "merkle/reconcile",
		"lock", "internal/health", "internal/alert",
	},
	"internal/central":   {"merkle/reconcile", "merkle", "internal/velox"},
	"internal/httpapi":   {"internal/health"},
	"internal/config":    {},
	"internal/telemetry": {},
	"deploy":             {},

	// What stands around the product: the demo's and the tests' own rooms.
	"internal/fleet":   {"internal/velox"},
	"internal/testkit": {},
	"internal/stage": {
		"internal/testkit", "internal/velox/veloxdb", "internal/postgres", "deploy", "internal/health", "internal/httpapi",
	},
	"internal/demo": {
		"internal/stage", "internal/fleet", "internal/testkit", "internal/alert", "internal/httpapi", "healer", "merkle/reconcile",
	},
	"internal/bench": {
		"healer", "merkle", "merkle/reconcile", "lock", "internal/velox", "internal/central", "internal/postgres", "internal/stage", "internal/testkit",
	},
	"internal/postgres/postgrestest": {
		"internal/postgres", "internal/stage", "internal/testkit", "lock", "internal/velox", "internal/velox/veloxdb",
	},
}

// pure lists the domain: packages that do no I/O of their own, with what they may
// import beside our own packages and the standard library.
var pure = map[string][]string{
	"healer":            {"github.com/google/uuid"},
	"healer/projection": {"github.com/google/uuid"},
	"merkle":            {},
	"merkle/reconcile":  {"github.com/google/uuid"},
	"lock":              {"github.com/google/uuid", "github.com/bsm/redislock", "github.com/redis/go-redis/v9"},
	"internal/velox":    {"github.com/google/uuid"},
	"internal/health":   {"github.com/google/uuid"},
	"internal/alert":    {"github.com/google/uuid"},
}

// impure is the part of the standard library that the domain does without.
var impure = []string{"database/sql", "net/http", "log", "log/slog", "os", "os/exec"}

func TestPackagesImportWhatTheirRoomsAllow(t *testing.T) {
	found := imports(t)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		allowed, listed := rooms[name]
		if !listed {
			t.Errorf("%s has no row in the table of rooms", name)
		}
		for own, where := range found[name] {
			own, isOwn := strings.CutPrefix(own, module+"/")
			if isOwn && listed && !slices.Contains(allowed, own) && !slices.Equal(allowed, anything) {
				t.Errorf("%s: %s must not import %s", where, name, own)
			}
		}
	}
	for name, allowed := range rooms {
		if found[name] == nil {
			t.Errorf("the table of rooms lists %s, which is not there", name)
		}
		for _, other := range allowed {
			if _, listed := rooms[other]; !listed && other != "*" {
				t.Errorf("the table of rooms lets %s import %s, which is not there", name, other)
			}
		}
	}
}

func TestTheDomainKnowsNoDatabaseNoHTTPAndNoLog(t *testing.T) {
	found := imports(t)
	for name, allowed := range pure {
		for imported, where := range found[name] {
			domain, _, _ := strings.Cut(imported, "/")
			switch {
			case strings.HasPrefix(imported, module+"/"), slices.Contains(allowed, imported):
			case strings.Contains(domain, "."), slices.Contains(impure, imported):
				t.Errorf("%s: %s is part of the domain and must not import %s", where, name, imported)
			}
		}
	}
}

// imports lists what each package's files import, tests aside, and where.
func imports(t *testing.T) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, parser.ImportsOnly)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		name := path.Dir(filepath.ToSlash(file))
		if found[name] == nil {
			found[name] = map[string]string{}
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", files.Position(spec.Pos()), err)
			}
			found[name][imported] = files.Position(spec.Pos()).String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
