package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
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

// maxSecret bounds a secret's file, so that a wrong path cannot fill memory.
const maxSecret = 64 << 10

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
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxSecret {
			f.add(key+"_file", "%s holds %d bytes, a secret has at most %d", path, info.Size(), maxSecret)
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			f.add(key+"_file", "%v", err)
			return
		}
		if *value = strings.TrimSpace(string(text)); *value == "" {
			f.add(key+"_file", "%s is empty", path)
		}
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
	required(f, "api.token", c.API.Token)
	c.checkStores(f)
	if mode == Client {
		return
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
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		f.add("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	for _, s := range []struct{ key, spec string }{
		{"schedule.heal", c.Schedule.Heal},
		{"schedule.heal_full", c.Schedule.HealFull},
		{"schedule.reconcile", c.Schedule.Reconcile},
		{"schedule.scrub", c.Schedule.Scrub},
		{"schedule.snapshot", c.Schedule.Snapshot},
	} {
		if _, err := ParseSchedule(s.spec); err != nil {
			f.add(s.key, "%v", err)
		}
	}
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

func required(f *faults, key, value string) {
	if value == "" {
		f.add(key, "is missing")
	}
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
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		f.add("central.url", "%q is not an http(s) address", c.Central.URL)
	case u.User != nil:
		f.add("central.url", "must not hold a password: tokens go to credentials")
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
