package central_test

import (
	"os"
	"testing"

	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
