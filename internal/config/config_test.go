package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/lock"
)

const good = `
database: {url: "postgres://u:s3cret@localhost/velox"}
central: {url: "https://central.example"}
api: {token: admin}
stores: [11111111-1111-4111-8111-111111111111]
credentials: [{store: 11111111-1111-4111-8111-111111111111, token: t0ken}]
`

func load(t *testing.T, text string, environ map[string]string, mode Mode) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reconciled.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, environ, mode)
}

func TestAGoodFileLoadsWithDefaults(t *testing.T) {
	c, err := load(t, good, map[string]string{"RECONCILED_LOCK_TTL": "2s", "OTHER": "x"}, Store)
	if err != nil {
		t.Fatal(err)
	}
	if c.Lock.TTL != 2*time.Second || c.Schedule.Heal != "@every 1m" || c.Schedule.Reconcile != "@every 10m" {
		t.Errorf("%+v", c)
	}
	if len(c.StoreIDs()) != 1 || c.Tokens()[c.StoreIDs()[0]][0] != "t0ken" {
		t.Errorf("stores %v, tokens %v", c.StoreIDs(), c.Tokens())
	}
}

func TestEachFaultIsNamedWithItsKeyAndNoSecret(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":         {good + "shedule: {}\n", "shedule"},
		"duplicate key":       {good + "api: {token: a}\n", "api"},
		"two documents":       {good + "---\n{}\n", "more than one document"},
		"empty file":          {"", "database.url: is missing"},
		"bad store":           {strings.Replace(good, "stores: [1", "stores: [x", 1), `stores[0]: "x1111111-1111-4111-8111-111111111111" is not a UUID`},
		"store without token": {strings.Replace(good, "{store: 1", "{store: 2", 1), "credentials: no token for store 11111111-"},
		"no admin token":      {strings.Replace(good, "token: admin", "listen: ':1'", 1), "api.token: is missing"},
		"blank admin token":   {strings.Replace(good, "token: admin", "token: ' '", 1), "api.token: is missing"},
		"three admin tokens":  {strings.Replace(good, "token: admin", `token: "t0ken\nb\nc"`, 1), "api.token: 3 tokens"},
		"unprintable token":   {strings.Replace(good, "token: admin", `token: "t0ken\0"`, 1), "api.token: a token has characters"},
		"negative period":     {good + "schedule: {heal: '@every -1s'}\n", "schedule.heal"},
		"bare time zone":      {good + "schedule: {heal: 'TZ=0'}\n", "schedule.heal"},
		"tiny TTL":            {good + "lock: {ttl: 1ms}\n", "lock.ttl: 1ms"},
		"TTL beyond the most": {good + fmt.Sprintf("lock: {ttl: %s}\n", lock.MaxTTL+time.Nanosecond), "lock.ttl: 10m0.000000001s"},
		"central with a path": {strings.Replace(good, "https://central", "ftp://central", 1), "central.url"},
		"when_away":           {good + "redis: {when_away: hope}\n", `redis.when_away: "hope"`},
		"mode":                {good + "mode: asleep\n", `mode: "asleep" is neither normal nor observe`},
		"level":               {good + "log: {level: loud}\n", "log.level"},
		"both token and file": {strings.Replace(good, "token: admin", "token: admin, token_file: /dev/null", 1), "api.token: given both"},
		"no rate":             {strings.Replace(good, "{url: \"https://central.example\"}", "{url: 'https://central.example', upload_rate: fast}", 1), `central.upload_rate: "fast"`},
		"negative rate":       {strings.Replace(good, "{url: \"https://central.example\"}", "{url: 'https://central.example', upload_rate: -1}", 1), `central.upload_rate: "-1"`},
		"tiny rate":           {strings.Replace(good, "{url: \"https://central.example\"}", "{url: 'https://central.example', download_rate: 5}", 1), `central.download_rate: "5" is less`},
		"no window":           {good + "schedule: {quiet: ['22:00-06:00', '22-6']}\n", `schedule.quiet[1]: "22-6"`},
		"no time of day":      {good + "schedule: {quiet: ['24:00-06:00']}\n", `schedule.quiet[0]: "24:00-06:00"`},
		"empty window":        {good + "schedule: {quiet: ['06:00-06:00']}\n", `schedule.quiet[0]: "06:00-06:00"`},
		"limit below never":   {good + "health: {gaps: {degraded: -2}}\n", "health.gaps.degraded: -2"},
		"limits upside down":  {good + "health: {latency: {critical: 1s}}\n", "health.latency.critical: 1s is less than degraded, 2s"},
		"mail without relay":  {good + "alerts: {mail: {to: [a@x.ve]}}\n", "alerts.mail.relay: is missing"},
		"mail from nobody":    {good + "alerts: {mail: {relay: 'x:25', to: [a@x.ve]}}\n", `alerts.mail.from: "" is not a mail address`},
		"mail to a word":      {good + "alerts: {mail: {relay: 'x:25', from: a@x.ve, to: [b]}}\n", `alerts.mail.to: "b" is not a mail address`},
		"password in plain":   {good + "alerts: {mail: {relay: 'x:25', from: a@x.ve, to: [b@x.ve], username: u, password: s3cret, plaintext: true}}\n", "alerts.mail.plaintext"},
		"central's password":  {strings.Replace(good, "https://central", "https://u:s3cret@central", 1), "central.url: must not hold a password"},
		"in a bad address":    {strings.Replace(good, "https://central", "u:s3cret@central", 1), "central.url: must not hold a password"},
		"unsigned webhook":    {good + "alerts: {webhook: {url: 'http://x'}}\n", "alerts.webhook: url and secret go together"},
		"webhook to nowhere":  {good + "alerts: {webhook: {url: 'x:s3cret@y', secret: s3cret}}\n", "alerts.webhook.url: is not an http(s) address"},
		"no period is late":   {good + "health: {late_periods: 0}\n", "health.late_periods: 0"},
		"missing secret file": {strings.Replace(good, "token: admin", "token_file: /nonexistent/x", 1), "api.token_file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.text, nil, Store)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			for _, secret := range []string{"s3cret", "t0ken"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the message quotes a secret: %v", err)
				}
			}
		})
	}
}

func TestAllFaultsAreListedAtOnce(t *testing.T) {
	_, err := load(t, "lock: {ttl: 1ms}\nlog: {level: loud}\n", nil, CentralServer)
	if !errors.Is(err, ErrInvalid) || strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("%v", err)
	}
}

func TestASecretComesFromItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, strings.Replace(good, "token: admin", "token_file: "+path, 1), nil, Store)
	if err != nil || c.API.Token != "from-file" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestEachModeNeedsItsOwnKeys(t *testing.T) {
	if _, err := load(t, "database: {migrate_url: 'postgres://x'}", nil, Migrate); err != nil {
		t.Errorf("migrate: %v", err)
	}
	if _, err := load(t, good, nil, CentralServer); err == nil || !strings.Contains(err.Error(), "serve.listen") {
		t.Errorf("central: %v, want serve.listen named", err)
	}
}
