package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/robfig/cron/v3"
)

// Mode is what a configuration is for: which keys it must have.
type Mode int

const (
	// Store: `run` and the commands beside it.
	Store Mode = iota
	// CentralServer: `central`.
	CentralServer
	// Migrate needs the migration role's database alone.
	Migrate
	// Client asks a running daemon: it needs the API alone.
	Client
	// Local works on the database beside a daemon, without central.
	Local
)

// ErrInvalid: the configuration has faults; the message lists them.
var ErrInvalid = errors.New("configuration is not valid")

type faults []string

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, key+": "+fmt.Sprintf(format, args...))
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  %s", ErrInvalid, strings.Join(f, "\n  "))
}

// readSecrets fills each value that a *_file key names, of those that the mode
// needs. Both at once are a fault: nobody could tell which one counts.
func (c *Config) readSecrets(mode Mode, f *faults) {
	read := func(key string, value *string, path string) {
		if path == "" {
			return
		}
		if *value != "" {
			f.add(key, "given both here and by %s_file", key)
			return
		}
		text, err := readSecret(path)
		if err != nil {
			f.add(key+"_file", "%v", err)
			return
		}
		*value = text
	}
	if mode == Migrate {
		read("database.migrate_url", &c.Database.MigrateURL, c.Database.MigrateURLFile)
		return
	}
	read("api.token", &c.API.Token, c.API.TokenFile)
	if mode == Client {
		return
	}
	read("database.url", &c.Database.URL, c.Database.URLFile)
	read("redis.url", &c.Redis.URL, c.Redis.URLFile)
	read("alerts.mail.password", &c.Alerts.Mail.Password, c.Alerts.Mail.PasswordFile)
	read("alerts.webhook.secret", &c.Alerts.Webhook.Secret, c.Alerts.Webhook.SecretFile)
	for i := range c.Credentials {
		read(fmt.Sprintf("credentials[%d].token", i), &c.Credentials[i].Token, c.Credentials[i].TokenFile)
	}
}

func (c *Config) check(mode Mode, f *faults) {
	if mode == Migrate {
		required(f, "database.migrate_url", c.Database.MigrateURL)
		return
	}
	checkListen(f, "api.listen", c.API.Listen)
	c.checkToken(f)
	c.checkStores(f)
	if mode == Client {
		return
	}
	if !slices.Contains([]string{"normal", "observe"}, c.Mode) {
		f.add("mode", "%q is neither normal nor observe", c.Mode)
	}
	required(f, "database.url", c.Database.URL)
	if c.Database.MaxConns != 0 && c.Database.MaxConns < 4 {
		f.add("database.max_conns", "%d is too few, at least 4", c.Database.MaxConns)
	}
	if !slices.Contains([]string{"fence", "stop"}, c.Redis.WhenAway) {
		f.add("redis.when_away", "%q is neither fence nor stop", c.Redis.WhenAway)
	}
	if c.Redis.URL == "" && c.Redis.WhenAway == "stop" {
		f.add("redis.url", "is needed when redis.when_away is stop")
	}
	if c.Lock.TTL < time.Second || c.Lock.TTL > 10*time.Minute {
		f.add("lock.ttl", "%s is not between 1s and 10m", c.Lock.TTL)
	}
	if c.Heal.Grace < 0 || c.Heal.Grace > time.Hour {
		f.add("heal.grace", "%s is not between 0s and 1h", c.Heal.Grace)
	}
	if c.Heal.Patience < time.Second || c.Heal.Patience > 24*time.Hour {
		f.add("heal.patience", "%s is not between 1s and 24h", c.Heal.Patience)
	}
	if !slices.Contains([]string{"native", "requeue", "requeue-then-native"}, c.Heal.Strategy) {
		f.add("heal.strategy", "%q is none of native, requeue, requeue-then-native", c.Heal.Strategy)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		f.add("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	for _, s := range []struct{ key, spec string }{
		{"schedule.heal", c.Schedule.Heal},
		{"schedule.heal_full", c.Schedule.HealFull},
		{"schedule.reconcile", c.Schedule.Reconcile},
		{"schedule.scrub", c.Schedule.Scrub},
		{"schedule.snapshot", c.Schedule.Snapshot},
		{"schedule.watch", c.Schedule.Watch},
	} {
		if _, err := ParseSchedule(s.spec); err != nil {
			f.add(s.key, "%v", err)
		}
	}
	c.Health.check(f)
	c.Alerts.check(f)
	for i, text := range c.Schedule.Quiet {
		window, err := parseWindow(text)
		if err != nil {
			f.add(fmt.Sprintf("schedule.quiet[%d]", i), "%v", err)
		}
		c.quiet = append(c.quiet, window)
	}
	c.checkCredentials(mode, f)
	switch mode {
	case Store:
		c.checkCentral(f)
	case CentralServer:
		checkListen(f, "serve.listen", c.Serve.Listen)
		if (c.Serve.CertFile == "") != (c.Serve.KeyFile == "") {
			f.add("serve", "cert_file and key_file go together")
		}
	}
}

func (h Health) check(f *faults) {
	for _, l := range []struct {
		key   string
		limit Limit
	}{
		{"gaps", h.Gaps},
		{"negative_stock", h.NegativeStock},
		{"outbox_pending", h.OutboxPending},
		{"outbox_dead", h.OutboxDead},
		{"fiscal_duplicates", h.FiscalDuplicates},
		{"conflict_rate", h.ConflictRate},
		{"disk_used_percent", h.DiskUsedPercent},
	} {
		checkLimit(f, "health."+l.key, l.limit.Degraded, l.limit.Critical, -1)
	}
	for _, l := range []struct {
		key   string
		limit LimitTime
	}{{"latency", h.Latency}, {"clock_skew", h.ClockSkew}, {"silence", h.Silence}} {
		checkLimit(f, "health."+l.key, l.limit.Degraded, l.limit.Critical, 0)
	}
	if h.LatePeriods < 1 {
		f.add("health.late_periods", "%d is not at least 1", h.LatePeriods)
	}
}

// checkLimit refuses what is below never, and a store that is critical before it is
// degraded.
func checkLimit[N int64 | time.Duration](f *faults, key string, degraded, critical, never N) {
	switch {
	case degraded < never:
		f.add(key+".degraded", "%v is below %v, which is never", degraded, never)
	case critical < never:
		f.add(key+".critical", "%v is below %v, which is never", critical, never)
	case critical != never && (critical < degraded || degraded == never):
		f.add(key+".critical", "%v is less than degraded, %v", critical, degraded)
	}
}

func (a Alerts) check(f *faults) {
	for _, u := range []struct{ key, value string }{{"alerts.webhook.url", a.Webhook.URL}, {"alerts.alertmanager.url", a.Alertmanager.URL}} {
		if u.value == "" {
			continue
		}
		if parsed, err := url.Parse(u.value); err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
			f.add(u.key, "is not an http(s) address") // it may hold a password
		}
	}
	if (a.Webhook.URL == "") != (a.Webhook.Secret == "") {
		f.add("alerts.webhook", "url and secret go together: what is posted is signed")
	}
	m := a.Mail
	if m.Relay == "" {
		if len(m.To) > 0 {
			f.add("alerts.mail.relay", "is missing, and mail is to go to %s", strings.Join(m.To, ", "))
		}
		return
	}
	checkListen(f, "alerts.mail.relay", m.Relay)
	if len(m.To)+len(m.Escalate) == 0 {
		f.add("alerts.mail.to", "is missing")
	}
	for _, l := range []struct {
		key       string
		addresses []string
	}{{"from", []string{m.From}}, {"to", m.To}, {"escalate", m.Escalate}} {
		for _, address := range l.addresses {
			if _, err := mail.ParseAddress(address); err != nil {
				f.add("alerts.mail."+l.key, "%q is not a mail address", address)
			}
		}
	}
	switch {
	case m.Username != "" && m.Plaintext:
		f.add("alerts.mail.plaintext", "excludes a password, which is not sent without TLS")
	case (m.Username == "") != (m.Password == ""):
		f.add("alerts.mail", "username and password go together")
	}
}

func required(f *faults, key, value string) {
	if value == "" {
		f.add(key, "is missing")
	}
}

// checkToken makes the first of the admin's tokens the one that this program uses.
func (c *Config) checkToken(f *faults) {
	tokens, err := parseTokens(c.API.Token)
	if err != nil {
		f.add("api.token", "%v", err)
		return
	}
	c.API.Token, c.API.tokens = tokens[0], tokens
}

func checkListen(f *faults, key, value string) {
	if _, _, err := net.SplitHostPort(value); err != nil {
		f.add(key, "%q is not host:port", value)
	}
}

func (c *Config) checkStores(f *faults) {
	for i, s := range c.Stores {
		key := fmt.Sprintf("stores[%d]", i)
		id, ok := storeID(f, key, s)
		switch {
		case !ok:
		case slices.Contains(c.stores, id):
			f.add(key, "%s is listed twice", id)
		default:
			c.stores = append(c.stores, id)
		}
	}
}

func storeID(f *faults, key, s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		f.add(key, "%q is not a UUID", s)
		return uuid.Nil, false
	}
	return id, true
}

func (c *Config) checkCredentials(mode Mode, f *faults) {
	seen := map[uuid.UUID]bool{}
	for i, credential := range c.Credentials {
		key := fmt.Sprintf("credentials[%d]", i)
		id, ok := storeID(f, key+".store", credential.Store)
		if ok && seen[id] && mode == Store {
			f.add(key+".store", "%s is listed twice; only central may hold two tokens of a store", id)
		}
		seen[id] = true
		if credential.Token == "" && credential.TokenFile == "" {
			f.add(key+".token", "is missing")
		}
	}
	if mode != Store {
		return
	}
	for _, store := range c.stores {
		if !seen[store] {
			f.add("credentials", "no token for store %s", store)
		}
	}
	if len(c.Credentials) == 0 {
		f.add("credentials", "no store has a token for central")
	}
}

func (c *Config) checkCentral(f *faults) {
	u, err := url.Parse(c.Central.URL)
	switch {
	case c.Central.URL == "":
		f.add("central.url", "is missing")
	case strings.Contains(c.Central.URL, "@"):
		f.add("central.url", "must not hold a password: tokens go to credentials")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		f.add("central.url", "%q is not an http(s) address", c.Central.URL)
	}
	c.uploadRate = parseRate(f, "central.upload_rate", c.Central.UploadRate)
	c.downloadRate = parseRate(f, "central.download_rate", c.Central.DownloadRate)
}

// leastRate is below any line there is: a page must get through.
const leastRate = 1 << 10

// parseRate reads bytes a second, such as 256KiB or a plain number; "" and 0 are none.
func parseRate(f *faults, key, text string) int64 {
	if text == "" {
		return 0
	}
	bytes, err := humanize.ParseBytes(text)
	switch {
	case err != nil || bytes > math.MaxInt64:
		f.add(key, "%q is no number of bytes, such as 262144 or 256KiB", text)
	case bytes != 0 && bytes < leastRate:
		f.add(key, "%q is less than 1KiB a second; 0 is no limit", text)
	}
	return int64(bytes)
}

// ParseSchedule reads five cron fields or @every DURATION. It refuses what
// cron/v3 takes or panics at: a negative or tiny period, a bare time zone.
func ParseSchedule(spec string) (schedule cron.Schedule, err error) {
	defer func() {
		if recover() != nil {
			schedule, err = nil, fmt.Errorf("%q is not a schedule", spec)
		}
	}()
	if every, ok := strings.CutPrefix(spec, "@every "); ok {
		period, err := time.ParseDuration(every)
		if err != nil || period < time.Second {
			return nil, fmt.Errorf("%q is not a period of at least 1s", spec)
		}
	}
	schedule, err = cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("%q is not a schedule: %w", spec, err)
	}
	return schedule, nil
}
