package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox/veloxdb"
	"github.com/veloxpos/reconciled/lock"
)

// errUnfit: the database is not as the daemon needs it; the message says how.
var errUnfit = errors.New("the database is not fit for reconciled")

// errObserving: the configuration lets this program look, and change nothing.
var errObserving = errors.New("mode: observe writes nothing to the POS's data")

// mayWrite says whether a command may change the POS's data here.
func (s *site) mayWrite() error {
	if s.config.Observing() {
		return fmt.Errorf("%w; set mode: normal in the configuration first", errObserving)
	}
	return nil
}

// site is a database with everything that works on it, opened and checked. Its
// cleanups run last in, first out.
type site struct {
	config   *config.Config
	db       *postgres.DB
	log      *postgres.Log
	healer   *healer.Healer
	locker   *lock.Locker
	client   *central.Client // nil at central
	cleanups []func()
}

// openSite connects, and checks the schema and the live database before anything
// is touched.
func openSite(ctx context.Context, c *config.Config) (_ *site, err error) {
	s := &site{config: c}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if s.db, err = postgres.Open(opening, c.Database.URL, postgres.Options{LeaseTTL: c.Lock.TTL, MaxConns: c.Database.MaxConns}); err != nil {
		return nil, err
	}
	s.cleanups = append(s.cleanups, s.db.Close)
	if err := s.checkDatabase(opening); err != nil {
		return nil, err
	}
	if err := s.openLock(); err != nil {
		return nil, err
	}
	s.log = postgres.NewLog(s.db)
	s.healer = healer.New(postgres.NewHealing(s.db), healer.Options{
		Grace: c.Heal.Grace, Strategy: healer.Strategy(c.Heal.Strategy), Patience: c.Heal.Patience,
		Observe: c.Observing(),
	})
	return s, nil
}

const openTimeout = 15 * time.Second

// away says whether openSite failed for a database that does not answer: that passes. What
// it answers itself, of a password for one, passes only when it says that it is busy.
func away(err error) bool {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(said.Code, "57") || strings.HasPrefix(said.Code, "53") // starting or stopping; no connection left
	}
	_, unreached := errors.AsType[*pgconn.ConnectError](err)
	return unreached || errors.Is(err, context.DeadlineExceeded)
}

// Close undoes what openSite did.
func (s *site) Close() {
	for _, cleanup := range slices.Backward(s.cleanups) {
		cleanup()
	}
}

func (s *site) checkDatabase(ctx context.Context) error {
	problems, err := veloxdb.Check(ctx, s.db.Pool, veloxdb.Options{})
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if len(problems) > 0 {
		lines := make([]string, len(problems))
		for i, p := range problems {
			lines[i] = "  " + p.String()
		}
		return fmt.Errorf("%w:\n%s", errUnfit, strings.Join(lines, "\n"))
	}
	return s.db.CheckVersion(ctx)
}

func (s *site) openLock() error {
	var front lock.Front
	if s.config.Redis.URL != "" {
		options, err := redis.ParseURL(s.config.Redis.URL)
		if err != nil {
			return fmt.Errorf("%w: redis.url is not a Redis address", config.ErrInvalid) // the cause would quote the password
		}
		options.ContextTimeoutEnabled = true
		options.MaxRetries = 1
		options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		redis.SetLogger(silent{}) // what goes wrong comes back as an error, and is logged once
		client := redis.NewClient(options)
		s.cleanups = append(s.cleanups, func() { _ = client.Close() })
		front = lock.NewRedis(client)
	}
	s.locker = lock.New(front, postgres.NewFence(s.db), lock.Options{
		TTL: s.config.Lock.TTL, FrontRequired: s.config.Redis.WhenAway == "stop",
	})
	return nil
}

// silent is a logger that says nothing.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// openClient makes the client that the store's rounds talk through.
func (s *site) openClient(ctx context.Context) error {
	installation, err := s.db.Installation(ctx)
	if err != nil {
		return err
	}
	tokens := map[uuid.UUID]string{}
	for store, list := range s.config.Tokens() {
		tokens[store] = list[0]
	}
	upload, download := s.config.Rates()
	s.client, err = central.NewClient(central.ClientOptions{
		URL: s.config.Central.URL, Tokens: tokens, Installation: installation, UploadRate: upload, DownloadRate: download,
	})
	return err
}

// stores are those of the configuration, else all in the database.
func (s *site) stores(ctx context.Context) ([]uuid.UUID, error) {
	present, err := s.db.Stores(ctx)
	if err != nil {
		return nil, err
	}
	wanted := s.config.StoreIDs()
	if len(wanted) == 0 {
		return present, nil
	}
	for _, store := range wanted {
		if !slices.Contains(present, store) {
			return nil, fmt.Errorf("%w:\n  stores: %s is not in the database", errUnfit, store)
		}
	}
	return wanted, nil
}

// owner names this process for whoever finds the lock held.
func owner() string { return fmt.Sprintf("%s pid %d", hostname(), os.Getpid()) }

// place names this daemon, whichever process it is: its address is its own on its host.
func place(c *config.Config) string { return fmt.Sprintf("%s (%s)", hostname(), c.API.Listen) }

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return host
}
