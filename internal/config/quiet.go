package config

import (
	"fmt"
	"strings"
	"time"
)

// Quiet are windows of local time.
type Quiet []window

// window is from one minute of the day to another, which may be of the next day.
type window struct{ from, to int }

const clock = "15:04"

// parseWindow reads "22:00-06:00".
func parseWindow(text string) (window, error) {
	first, last, _ := strings.Cut(text, "-")
	from, err := time.Parse(clock, first)
	if err != nil || len(first) != len(clock) {
		return window{}, fmt.Errorf("%q is no window such as 22:00-06:00", text)
	}
	to, err := time.Parse(clock, last)
	if err != nil || len(last) != len(clock) {
		return window{}, fmt.Errorf("%q is no window such as 22:00-06:00", text)
	}
	if from.Equal(to) {
		return window{}, fmt.Errorf("%q ends when it begins", text)
	}
	return window{minuteOf(from), minuteOf(to)}, nil
}

func minuteOf(t time.Time) int { return t.Hour()*60 + t.Minute() }

// holds reports whether a minute of the day lies in the window; its last does not.
func (w window) holds(minute int) bool {
	if w.from < w.to {
		return w.from <= minute && minute < w.to
	}
	return minute >= w.from || minute < w.to
}

// Until is when the quiet hours end that t lies in; false when it lies in none.
// Windows that follow each other are one.
func (q Quiet) Until(t time.Time) (end time.Time, quiet bool) {
	end = t
	for range q {
		for _, w := range q {
			if !w.holds(minuteOf(end)) {
				continue
			}
			day := end.Day()
			if w.to <= minuteOf(end) {
				day++
			}
			end, quiet = time.Date(end.Year(), end.Month(), day, w.to/60, w.to%60, 0, 0, end.Location()), true
		}
	}
	return end, quiet
}
