package deploy_test

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/config"
)

const (
	program    = "/usr/bin/reconciled"
	secretsDir = "/etc/reconciled/secrets"
	// exposure is the most that systemd may find in a unit, of 100.
	exposure = "15"
)

var units = []string{"reconciled.service", "reconciled-central.service"}

// sample is a copy of reconciled.yaml as a site would have it: its secrets exist.
func sample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("reconciled.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, secret := range map[string]string{
		"database-url": "postgres:///velox?user=reconciled_runtime\n", "api-token": "admin\n", "central-token": "t0ken\n",
	} {
		write(t, filepath.Join(dir, name), secret, 0o600)
	}
	path := filepath.Join(dir, "reconciled.yaml")
	write(t, path, strings.ReplaceAll(string(text), secretsDir, dir), 0o600)
	return path
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestTheSampleConfigurationIsGoodForEveryCommand(t *testing.T) {
	for name, c := range map[string]struct {
		mode    config.Mode
		environ map[string]string
	}{
		"run":     {config.Store, nil},
		"central": {config.CentralServer, map[string]string{"RECONCILED_SERVE_LISTEN": "0.0.0.0:8443"}},
		"migrate": {config.Migrate, map[string]string{"RECONCILED_DATABASE_MIGRATE_URL": "postgres:///velox?user=reconciled_migrator"}},
		"health":  {config.Client, nil},
		"heal":    {config.Local, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := config.Load(sample(t), c.environ, c.mode); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheSampleConfigurationShowsTheDefaults(t *testing.T) {
	shown, err := config.Load(sample(t), nil, config.Store)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := config.Load("", map[string]string{
		"RECONCILED_DATABASE_URL": "postgres:///velox", "RECONCILED_API_TOKEN": "admin",
	}, config.Local)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]any{
		{shown.Database.MaxConns, defaults.Database.MaxConns},
		{shown.Redis.WhenAway, defaults.Redis.WhenAway},
		{shown.API.Listen, defaults.API.Listen},
		{shown.Central.UploadRate, defaults.Central.UploadRate},
		{shown.Central.DownloadRate, defaults.Central.DownloadRate},
		{shown.Serve, defaults.Serve},
		{shown.Schedule, defaults.Schedule},
		{shown.Lock, defaults.Lock},
		{shown.Heal, defaults.Heal},
		{shown.Health, defaults.Health},
		{shown.Log, defaults.Log},
	} {
		if !gocmp.Equal(pair[0], pair[1], cmpopts.EquateEmpty()) {
			t.Errorf("reconciled.yaml says %+v, the default is %+v", pair[0], pair[1])
		}
	}
}

func TestTheSampleConfigurationNamesEveryKeyInOrder(t *testing.T) {
	text, err := os.ReadFile("reconciled.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	got := keysOf(document.Content[0], "")
	want := fieldsOf(reflect.TypeFor[config.Config](), "")
	if !slices.Equal(got, want) {
		t.Errorf("reconciled.yaml has\n%s\nthe configuration\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// keysOf lists a mapping's keys, and those of the mappings and lists in it.
func keysOf(node *yaml.Node, under string) (keys []string) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(node.Content); i += 2 {
			key := under + node.Content[i].Value
			keys = append(append(keys, key), keysOf(node.Content[i+1], key+".")...)
		}
	case yaml.SequenceNode:
		for _, item := range node.Content {
			keys = append(keys, keysOf(item, under)...)
		}
	}
	return keys
}

// fieldsOf lists the keys that a configuration type reads.
func fieldsOf(of reflect.Type, under string) (keys []string) {
	if of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		field := of.Field(i)
		if tag, ok := field.Tag.Lookup("yaml"); ok {
			keys = append(append(keys, under+tag), fieldsOf(field.Type, under+tag+".")...)
		}
	}
	return keys
}

func TestSystemdFindsNothingToSayAboutTheUnits(t *testing.T) {
	for _, unit := range units {
		t.Run(unit, func(t *testing.T) {
			// An unknown key is only a warning to systemd, so any word is a fault.
			if out := analyze(t, "verify", "--man=no", installed(t, unit)); len(out) > 0 {
				t.Errorf("systemd-analyze verify: %s", out)
			}
		})
	}
}

func TestTheUnitsExposeLittle(t *testing.T) {
	for _, unit := range units {
		t.Run(unit, func(t *testing.T) {
			analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+exposure, installed(t, unit))
		})
	}
}

// installed is a copy of a unit whose program is in place.
func installed(t *testing.T, unit string) string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("\nExecStart="+program+" ")) {
		t.Fatalf("%s does not start %s", unit, program)
	}
	dir := t.TempDir()
	stand := filepath.Join(dir, "reconciled")
	write(t, stand, "#!/bin/sh\n", 0o700)
	path := filepath.Join(dir, unit)
	write(t, path, strings.ReplaceAll(string(text), program, stand), 0o600)
	return path
}

// analyze runs systemd-analyze, fails when it does, and returns what it said.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

// What Prometheus and the daemon both tell of is one alert in Alertmanager: by name, and
// as grave, as patient and as helpful in either's words.
func TestPrometheusRulesAreTheDaemonsAlerts(t *testing.T) {
	text, err := os.ReadFile("prometheus/reconciled.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				For         string
				Labels      struct{ Severity string }
				Annotations struct{ Command, Runbook string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	ruled := map[alert.Code]bool{}
	for _, rule := range file.Groups[0].Rules {
		code := alert.Code(rule.Alert)
		if !slices.Contains(alert.Codes(), code) {
			if !strings.HasPrefix(rule.Alert, "RECONCILED_") {
				t.Errorf("%s is no alert of the daemon's", rule.Alert)
			}
			continue
		}
		ruled[code] = true
		kind := alert.KindOf(code)
		pending, _ := time.ParseDuration(cmp.Or(rule.For, "0s"))
		if pending != kind.Pending && code != alert.ScheduleLate { // which is ten minutes late before
			t.Errorf("%s fires after %s, the daemon's after %s", code, pending, kind.Pending)
		}
		command := strings.ReplaceAll(rule.Annotations.Command, "{{ $labels.store }}", uuid.Nil.String())
		if rule.Labels.Severity != string(kind.Severity) || rule.Annotations.Runbook != kind.Section || command != kind.Command(uuid.Nil) {
			t.Errorf("%s: %+v %+v, want %s, runbook %s, %s", code, rule.Labels, rule.Annotations, kind.Severity, kind.Section, kind.Command(uuid.Nil))
		}
	}
	for _, code := range alert.Codes() {
		if !ruled[code] && code != alert.DatabaseDown { // that is RECONCILED_BLIND: nothing is measured
			t.Errorf("%s has no rule", code)
		}
	}
}

func TestPrometheusRulesFireInTheirTimeAndNotBefore(t *testing.T) {
	for _, args := range [][]string{
		{"promtool", "check", "rules", "reconciled.rules.yml"},
		{"promtool", "test", "rules", "reconciled.rules.test.yml"},
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		tool := exec.CommandContext(t.Context(), args[0], args[1:]...)
		tool.Dir = "prometheus"
		if out, err := tool.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	routed := exec.CommandContext(t.Context(), "amtool", "config", "routes", "test", "--config.file=prometheus/alertmanager.yml",
		"alertname=FISCAL_DUPLICATE", "store=s", "severity=critical")
	if out, err := routed.Output(); err != nil || strings.TrimSpace(string(out)) != "fiscal" {
		t.Errorf("a fiscal duplicate is routed to %q, %v", out, err)
	}
}
