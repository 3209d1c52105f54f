package alert

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryCodeIsInTheCatalogueAndWhole(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "kind.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != "Code" {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes++
		if _, ok := catalogue[Code(code)]; !ok {
			t.Errorf("%s is not in the catalogue", code)
		}
		return true
	})
	if codes != len(catalogue) || codes != 19 {
		t.Errorf("%d codes, %d in the catalogue, want 19", codes, len(catalogue))
	}
	for code, kind := range catalogue {
		for what, text := range map[string]Text{"title": kind.Title, "meaning": kind.Meaning, "tried": kind.Tried} {
			if text.ES == "" || text.EN == "" || text.ES == text.EN {
				t.Errorf("%s has no %s in both languages", code, what)
			}
		}
		if (kind.Unit.ES == "") != (kind.Unit.EN == "") {
			t.Errorf("%s has a unit in one language", code)
		}
		if section, err := strconv.Atoi(kind.Section); err != nil || section < 1 || section > 5 {
			t.Errorf("%s: the runbook has no section %q", code, kind.Section)
		}
		if command := kind.Command(centro); !strings.HasPrefix(command, "reconciled ") || strings.Contains(command, "{") ||
			!strings.Contains(command, " --store "+centro.String()) && code != DatabaseDown {
			t.Errorf("%s: %q is no command at a store", code, command)
		}
	}
}

func TestSeveritiesAndTimesAreTheRunbooks(t *testing.T) {
	for code, want := range map[Code]Kind{
		FederationCritical:    {Severity: Critical, Pending: 5 * time.Minute},
		ProjectionGapDetected: {Severity: High, Pending: 5 * time.Minute},
		OversellingDetected:   {Severity: Medium, Pending: 15 * time.Minute},
		FiscalDuplicate:       {Severity: Critical, AtOnce: true},
		FederationOffline:     {Severity: High, Pending: 2 * time.Minute},
		FiscalRangeRegression: {Severity: Critical, AtOnce: true},
		EventTampered:         {Severity: Critical},
		CaptureBroken:         {Severity: Critical},
		CloneOrRollback:       {Severity: Critical},
		DatabaseDown:          {Severity: Critical, Pending: 2 * time.Minute},
	} {
		if got := KindOf(code); got.Severity != want.Severity || got.Pending != want.Pending || got.AtOnce != want.AtOnce {
			t.Errorf("%s: %s after %s, at once %v", code, got.Severity, got.Pending, got.AtOnce)
		}
	}
}
