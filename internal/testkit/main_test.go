package testkit_test

import (
	"os"
	"testing"

	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanMaker) != "" {
		makeOrphans()
	}
	os.Exit(testkit.Main(m))
}
