package testkit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// childrenOf lists the direct children of a process.
func childrenOf(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var children []int
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if _, ppid := procStat(pid); ppid == parent {
			children = append(children, pid)
		}
	}
	return children
}

// alive is false for a zombie: it holds no memory, file or lock any more.
func alive(pid int) bool {
	state, _ := procStat(pid)
	return state != "" && state != "Z" && state != "X"
}

// procStat reads state and parent from /proc/pid/stat (proc(5)); the program's
// name before them is in parentheses and may hold anything.
func procStat(pid int) (state string, ppid int) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return "", 0
	}
	ppid, _ = strconv.Atoi(fields[1])
	return fields[0], ppid
}
