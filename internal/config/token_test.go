package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTwoTokensAreValidWhileOneIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	c, err := load(t, strings.Replace(good, "token: admin", "token_file: "+path, 1), nil, Store)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text string
		want []string
	}{{"old\n", []string{"old"}}, {"new\r\n\nold\n", []string{"new", "old"}}, {"new", []string{"new"}}} {
		write(step.text)
		if got, err := c.API.Tokens(); err != nil || !slices.Equal(got, step.want) {
			t.Errorf("of %q: %q, %v; want %q", step.text, got, err, step.want)
		}
	}
	for _, bad := range []string{"", " \n", "one\ntwo\nthree", "contraseña", "two words"} {
		write(bad)
		if got, err := c.API.Tokens(); err == nil || strings.Contains(err.Error(), "three") || strings.Contains(err.Error(), "contra") {
			t.Errorf("of %q: %q, %v", bad, got, err)
		}
	}
}

func TestTokensMayStandInTheConfigurationItself(t *testing.T) {
	c, err := load(t, good, map[string]string{"RECONCILED_API_TOKEN": "new\nold"}, Client)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.API.Tokens(); err != nil || !slices.Equal(got, []string{"new", "old"}) || c.API.Token != "new" {
		t.Errorf("%q, %v, the commands use %q", got, err, c.API.Token)
	}
}
