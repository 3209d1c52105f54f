package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// programs finds and runs the binaries of one Postgres version.
type programs struct {
	binDir string
	// owner is who must own the data directory: Postgres refuses to run as
	// root. Nil when this program is not root.
	owner *syscall.Credential
}

// findPrograms looks in binDir, or if that is empty in PATH and then in
// Debian's /usr/lib/postgresql, newest version first.
func findPrograms(binDir string) (programs, error) {
	dir, err := findBinDir(binDir)
	if err != nil {
		return programs{}, err
	}
	p := programs{binDir: dir}
	if os.Geteuid() == 0 {
		if p.owner, err = credential("postgres"); err != nil {
			return programs{}, err
		}
	}
	return p, nil
}

func findBinDir(binDir string) (string, error) {
	if binDir != "" {
		if _, err := os.Stat(filepath.Join(binDir, "initdb")); err != nil {
			return "", fmt.Errorf("find initdb: %w: %w", ErrMissingBinary, err)
		}
		return binDir, nil
	}
	// Some packages put initdb in PATH as a link; postgres is its neighbour.
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(real), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	newest, version := "", -1.0
	for _, path := range found {
		dir := filepath.Dir(path)
		v, err := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		if err == nil && v > version {
			newest, version = dir, v
		}
	}
	if newest == "" {
		return "", fmt.Errorf("find initdb in PATH and /usr/lib/postgresql/*/bin: %w: install the package \"postgresql\"", ErrMissingBinary)
	}
	return newest, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("find the user that runs the server: %w: install the package \"postgresql\"", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read uid of %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read gid of %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// command prepares a program to run as the owner, in dir.
//
// The kernel clears the parent death signal when credentials change, so a
// wrapper such as setpriv would lose it; the fork sets it after changing them.
func (p programs) command(name, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	return cmd
}

// run waits for a program and puts what it said into the error.
func (p programs) run(ctx context.Context, name, dir string, args ...string) error {
	out, err := os.CreateTemp("", "reconciled-run-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()

	cmd := p.command(name, dir, args...)
	cmd.Stdout, cmd.Stderr = out, out
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(name), err)
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		_ = proc.signal(syscall.SIGKILL)
		<-proc.done
		return fmt.Errorf("run %s: %w", filepath.Base(name), context.Cause(ctx))
	}
	if proc.err != nil {
		return fmt.Errorf("run %s: %w: %s", filepath.Base(name), proc.err, tail(out.Name()))
	}
	return nil
}

// mkdir makes dir for the owner alone.
func (p programs) mkdir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return p.own(dir)
}

func (p programs) own(path string) error {
	if p.owner == nil {
		return nil
	}
	return os.Chown(path, int(p.owner.Uid), int(p.owner.Gid))
}

// newCluster fills the empty directory data with a fresh cluster.
//
// initdb takes about a second, unpacking its result a sixth of that: the
// result is kept as one tar file, since a file is either there or not, while
// a directory under /tmp may be half swept away.
func (p programs) newCluster(ctx context.Context, data string) error {
	archive, err := p.template(ctx)
	if err != nil {
		return fmt.Errorf("make template cluster: %w", err)
	}
	if err := p.mkdir(data); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := p.run(ctx, "tar", data, "-xpf", archive); err != nil {
		return fmt.Errorf("unpack template cluster: %w", err)
	}
	return nil
}

// template returns the path of the tar file, making it first where there is
// none. Test binaries start together: a file lock lets one of them make it.
func (p programs) template(ctx context.Context) (string, error) {
	version, err := exec.Command(filepath.Join(p.binDir, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask postgres for its version: %w", err)
	}
	fields := strings.Fields(string(version)) // "postgres (PostgreSQL) 15.18 (Debian …)"
	if len(fields) < 3 {
		return "", fmt.Errorf("ask postgres for its version: unexpected answer %q", version)
	}
	home := filepath.Join(os.TempDir(), fmt.Sprintf("reconciled-postgres-%s-%d", fields[2], os.Geteuid()))
	if err := p.mkdir(home); err != nil {
		return "", err
	}
	archive := filepath.Join(home, "cluster.tar")

	lock, err := lockFile(filepath.Join(home, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}

	work := filepath.Join(home, "work")
	if err := os.RemoveAll(work); err != nil { // left by one that was killed
		return "", err
	}
	defer os.RemoveAll(work)
	data := filepath.Join(work, "data")
	if err := errors.Join(p.mkdir(work), p.mkdir(data)); err != nil {
		return "", err
	}
	if err := p.run(ctx, filepath.Join(p.binDir, "initdb"), work,
		"--pgdata="+data, "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"); err != nil {
		return "", err
	}
	unfinished := filepath.Join(work, "cluster.tar")
	if err := p.run(ctx, "tar", data, "-cf", unfinished, "."); err != nil {
		return "", err
	}
	return archive, os.Rename(unfinished, archive)
}

// lockFile waits for an exclusive lock on path; closing the file gives it up.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
