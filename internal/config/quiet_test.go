package config

import (
	"testing"
	"time"
)

func TestQuietHoursEndWhenTheirLastWindowDoes(t *testing.T) {
	c, err := load(t, good+"schedule: {quiet: ['22:00-00:00', '00:00-06:00', '12:00-13:30']}\n", nil, Store)
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04:05", text, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for now, want := range map[string]string{
		"2026-11-23 21:59:59": "",
		"2026-11-23 22:00:00": "2026-11-24 06:00:00",
		"2026-11-24 00:00:00": "2026-11-24 06:00:00",
		"2026-11-24 05:59:59": "2026-11-24 06:00:00",
		"2026-11-24 06:00:00": "",
		"2026-11-24 12:30:00": "2026-11-24 13:30:00",
		"2026-12-31 23:00:00": "2027-01-01 06:00:00",
	} {
		end, quiet := c.Quiet().Until(at(now))
		if quiet != (want != "") || quiet && !end.Equal(at(want)) {
			t.Errorf("at %s: %v until %s, want %q", now, quiet, end, want)
		}
	}
}

func TestAWindowMayCrossMidnight(t *testing.T) {
	w, err := parseWindow("22:30-06:15")
	if err != nil {
		t.Fatal(err)
	}
	for minute, want := range map[int]bool{22*60 + 29: false, 22*60 + 30: true, 0: true, 6*60 + 14: true, 6*60 + 15: false} {
		if w.holds(minute) != want {
			t.Errorf("minute %d: %v", minute, !want)
		}
	}
}

func TestADayThatIsAllQuietEndsNever(t *testing.T) {
	q := Quiet{{0, 720}, {720, 0}}
	if _, quiet := q.Until(time.Now()); !quiet {
		t.Error("not quiet")
	}
}

func TestRatesAreBytesASecond(t *testing.T) {
	c, err := load(t, good, map[string]string{"RECONCILED_CENTRAL_UPLOAD_RATE": "256KiB", "RECONCILED_CENTRAL_DOWNLOAD_RATE": "100000"}, Store)
	if err != nil {
		t.Fatal(err)
	}
	if up, down := c.Rates(); up != 256<<10 || down != 100_000 {
		t.Errorf("%d and %d", up, down)
	}
	if c, err = load(t, good, nil, Store); err != nil {
		t.Fatal(err)
	}
	if up, down := c.Rates(); up != 0 || down != 0 {
		t.Errorf("%d and %d, want no limit", up, down)
	}
}
