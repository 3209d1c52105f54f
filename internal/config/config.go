// Package config reads the daemon's configuration: one typed tree from a YAML
// file, overridden by environment variables, every value checked before anything
// starts. Unknown keys are errors, secrets may come from files, and no message
// ever quotes one.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"
)

// Config is the whole configuration. deploy/reconciled.yaml explains each key.
type Config struct {
	// Mode is "normal", or "observe": look, and write nothing to the POS's data.
	Mode        string       `yaml:"mode" env:"MODE"`
	Database    Database     `yaml:"database" envPrefix:"DATABASE_"`
	Redis       Redis        `yaml:"redis" envPrefix:"REDIS_"`
	Stores      []string     `yaml:"stores" env:"STORES"`
	API         API          `yaml:"api" envPrefix:"API_"`
	Central     Central      `yaml:"central" envPrefix:"CENTRAL_"`
	Serve       Serve        `yaml:"serve" envPrefix:"SERVE_"`
	Credentials []Credential `yaml:"credentials"`
	Schedule    Schedule     `yaml:"schedule" envPrefix:"SCHEDULE_"`
	Lock        Lock         `yaml:"lock" envPrefix:"LOCK_"`
	Heal        Heal         `yaml:"heal" envPrefix:"HEAL_"`
	Health      Health       `yaml:"health" envPrefix:"HEALTH_"`
	Alerts      Alerts       `yaml:"alerts" envPrefix:"ALERTS_"`
	Log         Log          `yaml:"log" envPrefix:"LOG_"`

	stores                   []uuid.UUID
	uploadRate, downloadRate int64
	quiet                    Quiet
}

// Database is the POS database, as the daemon's two roles see it.
type Database struct {
	URL            string `yaml:"url" env:"URL"`
	URLFile        string `yaml:"url_file" env:"URL_FILE"`
	MigrateURL     string `yaml:"migrate_url" env:"MIGRATE_URL"`
	MigrateURLFile string `yaml:"migrate_url_file" env:"MIGRATE_URL_FILE"`
	MaxConns       int32  `yaml:"max_conns" env:"MAX_CONNS"`
}

// Redis is the lock's front.
type Redis struct {
	URL     string `yaml:"url" env:"URL"`
	URLFile string `yaml:"url_file" env:"URL_FILE"`
	// WhenAway is "fence": go on under the database's fence alone, or "stop".
	WhenAway string `yaml:"when_away" env:"WHEN_AWAY"`
}

// API is where operators and the runbook's requests reach the daemon.
type API struct {
	Listen string `yaml:"listen" env:"LISTEN"`
	// Token is the admin's, a second one on a line of its own while it changes. Once
	// loaded it is the first, which the commands use.
	Token     string `yaml:"token" env:"TOKEN"`
	TokenFile string `yaml:"token_file" env:"TOKEN_FILE"`

	tokens []string
}

// Central is where a store finds central; `reconciled run` needs it.
type Central struct {
	URL string `yaml:"url" env:"URL"`
	// What all stores together may send and fetch, in bytes a second: "256KiB".
	UploadRate   string `yaml:"upload_rate" env:"UPLOAD_RATE"`
	DownloadRate string `yaml:"download_rate" env:"DOWNLOAD_RATE"`
}

// Serve is where central listens for stores; `reconciled central` needs it.
type Serve struct {
	Listen   string `yaml:"listen" env:"LISTEN"`
	CertFile string `yaml:"cert_file" env:"CERT_FILE"`
	KeyFile  string `yaml:"key_file" env:"KEY_FILE"`
}

// Credential is a store's token between the store and central. Central may list
// a store twice: both tokens are then valid, for rotation.
type Credential struct {
	Store     string `yaml:"store"`
	Token     string `yaml:"token"`
	TokenFile string `yaml:"token_file"`
}

// Schedule says when the daemon works by itself, each in cron's words.
type Schedule struct {
	Heal      string `yaml:"heal" env:"HEAL"`
	HealFull  string `yaml:"heal_full" env:"HEAL_FULL"`
	Reconcile string `yaml:"reconcile" env:"RECONCILE"`
	Scrub     string `yaml:"scrub" env:"SCRUB"`
	Snapshot  string `yaml:"snapshot" env:"SNAPSHOT"`
	Watch     string `yaml:"watch" env:"WATCH"`
	// Quiet are times of day in which the schedule moves little: "22:00-06:00".
	Quiet []string `yaml:"quiet" env:"QUIET"`
}

// Lock bounds how long a dead holder keeps others out.
type Lock struct {
	TTL time.Duration `yaml:"ttl" env:"TTL"`
}

// Heal says how the healer works beside the POS backend.
type Heal struct {
	Grace time.Duration `yaml:"grace" env:"GRACE"`
	// Strategy is a healer.Strategy.
	Strategy string        `yaml:"strategy" env:"STRATEGY"`
	Patience time.Duration `yaml:"patience" env:"PATIENCE"`
}

// Health says from where on a store is degraded, and critical.
type Health struct {
	Gaps             Limit `yaml:"gaps" envPrefix:"GAPS_"`
	NegativeStock    Limit `yaml:"negative_stock" envPrefix:"NEGATIVE_STOCK_"`
	OutboxPending    Limit `yaml:"outbox_pending" envPrefix:"OUTBOX_PENDING_"`
	OutboxDead       Limit `yaml:"outbox_dead" envPrefix:"OUTBOX_DEAD_"`
	FiscalDuplicates Limit `yaml:"fiscal_duplicates" envPrefix:"FISCAL_DUPLICATES_"`
	ConflictRate     Limit `yaml:"conflict_rate" envPrefix:"CONFLICT_RATE_"`
	DiskUsedPercent  Limit `yaml:"disk_used_percent" envPrefix:"DISK_USED_PERCENT_"`

	Latency   LimitTime `yaml:"latency" envPrefix:"LATENCY_"`
	ClockSkew LimitTime `yaml:"clock_skew" envPrefix:"CLOCK_SKEW_"`
	Silence   LimitTime `yaml:"silence" envPrefix:"SILENCE_"`

	LatePeriods int      `yaml:"late_periods" env:"LATE_PERIODS"`
	Disks       []string `yaml:"disks" env:"DISKS"`
}

// Limit of a count: more than Degraded is degraded, more than Critical critical; -1 is
// never.
type Limit struct {
	Degraded int64 `yaml:"degraded" env:"DEGRADED"`
	Critical int64 `yaml:"critical" env:"CRITICAL"`
}

// LimitTime is a Limit of a duration; 0 is never.
type LimitTime struct {
	Degraded time.Duration `yaml:"degraded" env:"DEGRADED"`
	Critical time.Duration `yaml:"critical" env:"CRITICAL"`
}

// Alerts says who is told what is wrong. The log always is.
type Alerts struct {
	// Screens: the shop's own, through the POS's notifications.
	Screens      bool         `yaml:"screens" env:"SCREENS"`
	Mail         Mail         `yaml:"mail" envPrefix:"MAIL_"`
	Webhook      Webhook      `yaml:"webhook" envPrefix:"WEBHOOK_"`
	Alertmanager Alertmanager `yaml:"alertmanager" envPrefix:"ALERTMANAGER_"`
}

// Mail goes out by a relay; none without one.
type Mail struct {
	Relay        string   `yaml:"relay" env:"RELAY"`
	From         string   `yaml:"from" env:"FROM"`
	Username     string   `yaml:"username" env:"USERNAME"`
	Password     string   `yaml:"password" env:"PASSWORD"`
	PasswordFile string   `yaml:"password_file" env:"PASSWORD_FILE"`
	Plaintext    bool     `yaml:"plaintext" env:"PLAINTEXT"`
	To           []string `yaml:"to" env:"TO"`
	// Escalate are told in turn, one an hour, while nobody acknowledges.
	Escalate []string `yaml:"escalate" env:"ESCALATE"`
}

// Webhook is posted to, signed; none without a URL.
type Webhook struct {
	URL        string `yaml:"url" env:"URL"`
	Secret     string `yaml:"secret" env:"SECRET"`
	SecretFile string `yaml:"secret_file" env:"SECRET_FILE"`
}

// Alertmanager is an Alertmanager's base; none without a URL.
type Alertmanager struct {
	URL string `yaml:"url" env:"URL"`
}

// Log is how much the daemon says: debug, info, warn or error.
type Log struct {
	Level string `yaml:"level" env:"LEVEL"`
}

// defaults are what a key has that the file does not name.
func defaults() Config {
	return Config{
		Mode:     "normal",
		Redis:    Redis{WhenAway: "fence"},
		API:      API{Listen: "127.0.0.1:9464"},
		Central:  Central{UploadRate: "0", DownloadRate: "0"},
		Schedule: Schedule{Heal: "@every 1m", HealFull: "@every 1h", Reconcile: "@every 10m", Scrub: "@every 1h", Snapshot: "@every 5m", Watch: "@every 1m"},
		Lock:     Lock{TTL: 30 * time.Second},
		Heal:     Heal{Grace: time.Minute, Strategy: "requeue-then-native", Patience: 2 * time.Minute},
		Health: Health{
			Gaps: Limit{0, 10}, NegativeStock: Limit{0, 5}, OutboxPending: Limit{10, -1}, OutboxDead: Limit{0, 5},
			FiscalDuplicates: Limit{0, 0}, ConflictRate: Limit{10, 50}, DiskUsedPercent: Limit{90, 97},
			Latency: LimitTime{2 * time.Second, 5 * time.Second}, ClockSkew: LimitTime{30 * time.Second, 0}, Silence: LimitTime{2 * time.Hour, 0},
			LatePeriods: 3, Disks: []string{"/"},
		},
		Alerts: Alerts{Screens: true, Mail: Mail{Escalate: []string{"sre@veloxpos.com", "dev-backend@veloxpos.com"}}},
		Log:    Log{Level: "info"},
	}
}

// EnvPrefix begins every variable: RECONCILED_DATABASE_URL is database.url.
const EnvPrefix = "RECONCILED_"

// Load reads the file, then the environment, then the secrets' files, and checks
// everything for a mode. The error lists every fault that was found, a line each.
func Load(path string, environ map[string]string, mode Mode) (*Config, error) {
	c := defaults()
	if path != "" {
		if err := c.readFile(path); err != nil {
			return nil, err
		}
	}
	if err := env.ParseWithOptions(&c, env.Options{Prefix: EnvPrefix, Environment: environ}); err != nil {
		return nil, fmt.Errorf("%w:\n  environment: %w", ErrInvalid, err)
	}
	var faults faults
	c.readSecrets(mode, &faults)
	c.check(mode, &faults)
	if err := faults.err(); err != nil {
		return nil, err
	}
	return &c, nil
}

func (c *Config) readFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w:\n  %s: %w", ErrInvalid, path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w:\n  %s: more than one document", ErrInvalid, path)
	}
	return nil
}

// StoreIDs are the stores to serve; none means every store in the database.
func (c *Config) StoreIDs() []uuid.UUID { return c.stores }

// Observing: nothing is written to the POS's data.
func (c *Config) Observing() bool { return c.Mode == "observe" }

// Rates bound what all stores together send and fetch, in bytes a second; zero is no
// bound.
func (c *Config) Rates() (upload, download int64) { return c.uploadRate, c.downloadRate }

// Quiet are the quiet hours.
func (c *Config) Quiet() Quiet { return c.quiet }

// Tokens are the bearer tokens by store.
func (c *Config) Tokens() map[uuid.UUID][]string {
	tokens := make(map[uuid.UUID][]string, len(c.Credentials))
	for _, credential := range c.Credentials {
		store := uuid.MustParse(credential.Store) // checked by Load
		tokens[store] = append(tokens[store], credential.Token)
	}
	return tokens
}
