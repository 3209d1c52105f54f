package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract is openapi.json, read by a validator that is not ours. Its objects are closed
// unless they say that they are open, so that an answer with a field more is noticed.
type contract struct {
	*testing.T
	document map[string]any
	schemas  *jsonschema.Compiler
}

const documentName = "openapi.json"

func newContract(t *testing.T) *contract {
	t.Helper()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{T: t, document: text.(map[string]any), schemas: jsonschema.NewCompiler()}
	closeObjects(text)
	c.schemas.DefaultDraft(jsonschema.Draft2020)
	c.schemas.AssertFormat()
	if err := c.schemas.AddResource(documentName, text); err != nil {
		t.Fatal(err)
	}
	return c
}

func closeObjects(node any) {
	switch node := node.(type) {
	case map[string]any:
		if _, said := node["additionalProperties"]; node["type"] == "object" && !said {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			closeObjects(child)
		}
	case []any:
		for _, child := range node {
			closeObjects(child)
		}
	}
}

// at finds a node by its way from the root, and follows references.
func (c *contract) at(way ...string) (node map[string]any, pointer string) {
	c.Helper()
	node, pointer = c.document, "#"
	for _, step := range way {
		next, ok := node[step].(map[string]any)
		if !ok {
			return nil, ""
		}
		node, pointer = next, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
		if to, isRef := node["$ref"].(string); isRef {
			node, pointer = c.at(strings.Split(strings.TrimPrefix(to, "#/"), "/")...)
		}
	}
	return node, pointer
}

// operation is a method of a path in the document.
type operation struct{ path, method string }

func (c *contract) operations() (all []operation) {
	paths, _ := c.at("paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range slices.Sorted(maps.Keys(paths[path].(map[string]any))) {
			all = append(all, operation{path, method})
		}
	}
	return all
}

// parameters are an operation's, with references followed.
func (c *contract) parameters(o operation) (list []map[string]any) {
	node, _ := c.at("paths", o.path, o.method)
	given, _ := node["parameters"].([]any)
	for _, p := range given {
		p := p.(map[string]any)
		if to, isRef := p["$ref"].(string); isRef {
			p, _ = c.at(strings.Split(strings.TrimPrefix(to, "#/"), "/")...)
		}
		list = append(list, p)
	}
	return list
}

// target is a path with its required parameters as in their examples, and more.
func (c *contract) target(o operation, more url.Values) string {
	c.Helper()
	path, query := o.path, url.Values{}
	for _, p := range c.parameters(o) {
		example := fmt.Sprint(p["example"])
		switch name := p["name"].(string); {
		case p["required"] != true:
		case p["example"] == nil:
			c.Errorf("%s: parameter %s has no example", o.path, name)
		case p["in"] == "path":
			path = strings.ReplaceAll(path, "{"+name+"}", example)
		default:
			query.Set(name, example)
		}
	}
	maps.Copy(query, more)
	return path + "?" + query.Encode()
}

// body is an operation's example, "" for a GET.
func (c *contract) body(o operation) string {
	media, _ := c.at("paths", o.path, o.method, "requestBody", "content", "application/json")
	if media == nil {
		return ""
	}
	text, err := json.Marshal(media["example"])
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

// holds wants an answer to be one of those that the document gives the operation.
func (c *contract) holds(o operation, w *httptest.ResponseRecorder) {
	c.Helper()
	response, _ := c.at("paths", o.path, o.method, "responses", fmt.Sprint(w.Code))
	if response == nil {
		c.Errorf("%s %s answers %d, which the document does not know: %s", o.method, o.path, w.Code, w.Body)
		return
	}
	media, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	_, pointer := c.at("paths", o.path, o.method, "responses", fmt.Sprint(w.Code), "content", media, "schema")
	if pointer == "" {
		c.Errorf("%s %s answers %d as %q, which the document does not know", o.method, o.path, w.Code, media)
		return
	}
	if media == "application/json" {
		c.valid(pointer, w.Body.Bytes())
	}
	headers, _ := c.at("paths", o.path, o.method, "responses", fmt.Sprint(w.Code), "headers")
	for _, name := range []string{"Retry-After", "X-Request-Id"} {
		if _, known := headers[name]; w.Header().Get(name) != "" && !known && media == "application/json" {
			c.Errorf("%s %s answers %d with header %s, which the document does not know", o.method, o.path, w.Code, name)
		}
	}
}

// valid holds a JSON text against a schema of the document.
func (c *contract) valid(pointer string, text []byte) {
	c.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		c.Errorf("%s: %v", text, err)
		return
	}
	schema, err := c.schemas.Compile(documentName + pointer)
	if err != nil {
		c.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		c.Errorf("%s\nis not as %s: %v", text, pointer, err)
	}
}

func TestTheDocumentIsOpenAPI(t *testing.T) {
	text, err := os.ReadFile("testdata/openapi-3.1.schema.json") // of the OpenAPI Initiative, Apache 2.0
	if err != nil {
		t.Fatal(err)
	}
	meta, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("openapi-3.1", meta); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("openapi-3.1")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
	c := newContract(t)
	schemas, _ := c.at("components", "schemas")
	for name := range schemas {
		if _, err := c.schemas.Compile(documentName + "#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheDocumentAndTheHandlerHaveTheSameRoutes(t *testing.T) {
	var handled, described []string
	a := &api{opts: Options{Metrics: (&desk{}).at()}}
	for _, r := range a.routes() {
		handled = append(handled, strings.ToLower(r.method)+" "+r.path)
	}
	c := newContract(t)
	for _, o := range c.operations() {
		described = append(described, o.method+" "+o.path)
	}
	slices.Sort(handled)
	slices.Sort(described)
	if !slices.Equal(handled, described) {
		t.Errorf("the handler has\n%s\nthe document\n%s", strings.Join(handled, "\n"), strings.Join(described, "\n"))
	}
	for _, o := range c.operations() { // and the handler's own word for it
		if w := request((&desk{}).at(), strings.ToUpper(o.method), c.target(o, nil), c.body(o)); w.Code == 404 || w.Code == 405 {
			t.Errorf("%s %s: %d %s", o.method, o.path, w.Code, w.Body)
		}
		if w := request((&desk{}).at(), "PATCH", c.target(o, nil), ""); w.Code != 405 || !strings.Contains(w.Header().Get("Allow"), strings.ToUpper(o.method)) {
			t.Errorf("%s: %d, Allow %q", o.path, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestEveryAnswerIsAsTheDocumentSays(t *testing.T) {
	for _, o := range newContract(t).operations() {
		t.Run(o.method+" "+o.path, func(t *testing.T) {
			c := newContract(t)
			ask := func(d *desk, want int, more url.Values, body string, header ...string) {
				t.Helper()
				w := request(d.at(), strings.ToUpper(o.method), c.target(o, more), body, header...)
				if w.Code != want && want != 0 {
					t.Errorf("%d %s, want %d", w.Code, w.Body, want)
				}
				c.holds(o, w)
			}
			good := c.body(o)
			if good == "" {
				ask(&desk{}, 200, nil, "")
			} else {
				c.takes(o, good)
				ask(&desk{}, 0, nil, good)
			}
			node, _ := c.at("paths", o.path, o.method)
			if _, open := node["security"]; open {
				return
			}
			ask(&desk{}, 401, nil, good, "Authorization", "Bearer guess")
			ask(&desk{}, 400, url.Values{"dance": {"1"}}, good)
			ask(&desk{}, 400, nil, good, "X-Operator", " ")
			for _, err := range []error{
				errors.New("database away"), ErrStopping, ErrNoTask, ErrNoBreaker, &UnknownError{Code: "UNKNOWN_ENTRY", Field: "after"},
			} {
				ask(&desk{err: err}, asFault(err).Status, nil, good)
			}
			c.bounds(o)
			if good == "" {
				return
			}
			ask(&desk{}, 413, nil, strings.Repeat(" ", maxBody+1))
			ask(&desk{}, 415, nil, good, "Content-Type", "text/plain")
			ask(&desk{}, 400, nil, "{}")
			ask(&desk{}, 404, nil, strings.ReplaceAll(good, shop.String(), uuid.NewString()))
			for _, err := range []error{&HeldError{Holder: "caja-2", Run: run}, &PausedError{Message: "by ana"}, ErrObserving} {
				ask(&desk{err: err}, 409, nil, good)
			}
			d := &desk{}
			ask(d, 0, nil, good, "Idempotency-Key", "k")
			ask(d, 0, nil, good, "Idempotency-Key", "k")
			ask(d, 422, nil, good+" ", "Idempotency-Key", "k")
		})
	}
}

// takes wants a body's example to be as its schema says, and every member of the schema
// to be one that the handler knows.
func (c *contract) takes(o operation, example string) {
	c.Helper()
	schema, pointer := c.at("paths", o.path, o.method, "requestBody", "content", "application/json", "schema")
	c.valid(pointer, []byte(example))
	for name := range schema["properties"].(map[string]any) {
		w := request((&desk{}).at(), "POST", o.path, fmt.Sprintf(`{%q: {}}`, name))
		if strings.Contains(w.Body.String(), "not known") || w.Code != 400 {
			c.Errorf("member %s: %d %s", name, w.Code, w.Body)
		}
	}
}

// bounds wants each optional parameter to be taken as far as its schema goes, and no
// further.
func (c *contract) bounds(o operation) {
	c.Helper()
	for _, p := range c.parameters(o) {
		name, schema := p["name"].(string), p["schema"].(map[string]any)
		if p["in"] != "query" || p["required"] == true {
			continue
		}
		good, bad := []string{}, []string{"", "x", "x\x00"}
		switch words, _ := schema["enum"].([]any); {
		case words != nil:
			for _, word := range words {
				good = append(good, word.(string))
			}
		case schema["type"] == "boolean":
			good = []string{"true", "false"}
		case schema["type"] == "integer":
			least, most := number(schema["minimum"]), number(schema["maximum"])
			good = []string{fmt.Sprint(least), fmt.Sprint(most), fmt.Sprint(schema["default"])}
			bad = append(bad, fmt.Sprint(least-1), fmt.Sprint(most+1), "1.5", "-0")
		case schema["format"] == "uuid":
			good = []string{run.String()}
		default:
			c.Errorf("parameter %s: nothing is known of %v", name, schema)
		}
		for status, values := range map[int][]string{200: good, 400: bad} {
			for _, value := range values {
				if w := request((&desk{}).at(), "GET", c.target(o, url.Values{name: {value}}), ""); w.Code != status {
					c.Errorf("%s=%q: %d %s, want %d", name, value, w.Code, w.Body, status)
				}
			}
		}
	}
}

func number(n any) int {
	i, _ := n.(json.Number).Int64()
	return int(i)
}
