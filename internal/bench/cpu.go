package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// timed is how long work takes, and the CPU that this process uses meanwhile.
func timed(work func() error) (wall, cpu time.Duration, err error) {
	used, start := ownCPU(), time.Now()
	err = work()
	return time.Since(start), ownCPU() - used, err
}

// ownCPU is this process's CPU so far, of the user and of the system.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // only for a wrong argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// serverCPU is what a Postgres server has used so far, from one of its backends'
// ids: the postmaster, its children that have ended, and those that live.
func serverCPU(backend uint32) (time.Duration, error) {
	own, err := readStat(int(backend))
	if err != nil {
		return 0, err
	}
	postmaster, err := readStat(own.parent)
	if err != nil {
		return 0, err
	}
	ticks := postmaster.own + postmaster.ended
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return 0, err
		}
		if s, err := readStat(pid); err == nil && s.parent == own.parent {
			ticks += s.own // one that ended meanwhile is counted among the ended
		}
	}
	const tick = time.Second / 100 // USER_HZ, on every Linux that Go knows
	return time.Duration(ticks) * tick, nil
}

// stat is what /proc/PID/stat says (proc(5)), CPU in ticks.
type stat struct {
	parent     int
	own, ended int64
}

func readStat(pid int) (s stat, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	// The program's name before the rest is in parentheses and may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	number := func(i int) int64 {
		n, parseErr := strconv.ParseInt(fields[i], 10, 64)
		if err == nil {
			err = parseErr
		}
		return n
	}
	if len(fields) < 15 {
		return s, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	s = stat{parent: int(number(1)), own: number(11) + number(12), ended: number(13) + number(14)}
	return s, err
}
