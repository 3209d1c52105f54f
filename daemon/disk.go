package daemon

import (
	"fmt"
	"syscall"
)

// diskUse is how full the disk is that a path lies on, in per cent of what others than
// root may use, and how many bytes they have left.
func diskUse(path string) (percent int64, free uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return 0, 0, fmt.Errorf("look at the disk of %s: %w", path, err)
	}
	used := fs.Blocks - fs.Bfree
	if used+fs.Bavail == 0 {
		return 0, 0, nil // no disk: a mount of the kernel's
	}
	return int64((used*100 + used + fs.Bavail - 1) / (used + fs.Bavail)), fs.Bavail * uint64(fs.Bsize), nil
}
