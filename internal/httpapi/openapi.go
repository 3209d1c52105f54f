package httpapi

import (
	_ "embed"
	"net/http"
)

// document describes the API, in OpenAPI 3.1. A test holds the API against it.
//
//go:embed openapi.json
var document []byte

func (a *api) describe(w http.ResponseWriter, _ *http.Request) {
	Answer{Status: http.StatusOK, Body: document}.write(w)
}
