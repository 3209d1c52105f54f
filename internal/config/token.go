package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Tokens are those that open the operators' API: one, or two while the first is being
// replaced. Where they stand in a file it is read anew, so that a changed one needs no
// restart. The first is the one that the commands use.
func (a API) Tokens() ([]string, error) {
	if a.TokenFile == "" {
		return a.tokens, nil
	}
	text, err := readSecret(a.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read api.token_file: %w", err)
	}
	tokens, err := parseTokens(text)
	if err != nil {
		return nil, fmt.Errorf("read api.token_file: %w", err)
	}
	return tokens, nil
}

// parseTokens reads a token a line, two at most. A message never quotes one.
func parseTokens(text string) (tokens []string, err error) {
	for line := range strings.Lines(text) {
		token := strings.TrimSpace(line)
		switch {
		case token == "":
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, errors.New("a token has characters that a header cannot carry")
		default:
			tokens = append(tokens, token)
		}
	}
	switch len(tokens) {
	case 0:
		return nil, errors.New("is missing")
	case 1, 2:
		return tokens, nil
	default:
		return nil, fmt.Errorf("%d tokens, two are valid at once at most", len(tokens))
	}
}

// maxSecret bounds a secret's file, so that a wrong path cannot fill memory.
const maxSecret = 64 << 10

// readSecret reads a secret's file, without the white space around it.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > maxSecret {
		return "", fmt.Errorf("%s holds %d bytes, a secret has at most %d", path, info.Size(), maxSecret)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}
