package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres"
)

// evidencePack is what legal and accounting get of duplicate fiscal numbers. Its first
// line says when, where and by which version it was made, and has the SHA-256 of all
// that follows it: `tail -n +2 FILE | sha256sum` gives the same.
type evidencePack struct {
	What         string    `json:"what"`
	Resolved     bool      `json:"resolved"` // voids left each number at most one sale
	Made         time.Time `json:"made_at"`
	Version      string    `json:"version"`
	Installation uuid.UUID `json:"installation_id"` // whose log and rows these are
	Stores       string    `json:"of"`
	Numbers      int       `json:"numbers"`
	SHA256       string    `json:"sha256_of_what_follows"`

	duplicates []postgres.FiscalEvidence
}

// exported is a pack that was written.
type exported struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// target is a file to write, and how.
type target struct{ path, format string }

// targets are the files that --export and --format ask for.
func (k fiscalDuplicatesCommand) targets(now time.Time) ([]target, error) {
	switch info, err := os.Stat(k.Export); {
	case k.Export == "" && k.Format != "":
		return nil, errors.New("--format goes with --export")
	case k.Export == "":
		return nil, nil
	case err == nil && info.IsDir():
		var list []target
		for _, format := range []string{"json", "csv"} {
			if k.Format == "" || k.Format == format {
				name := fmt.Sprintf("fiscal-duplicates-%s.%s", now.Format("20060102T150405Z"), format)
				list = append(list, target{filepath.Join(k.Export, name), format})
			}
		}
		return list, nil
	}
	format := k.Format
	if format == "" {
		format = strings.ToLower(strings.TrimPrefix(filepath.Ext(k.Export), "."))
	}
	if format != "json" && format != "csv" {
		return nil, fmt.Errorf("--export %s is no directory and ends in neither .json nor .csv; --format says which it is to be", k.Export)
	}
	return []target{{k.Export, format}}, nil
}

// write writes the pack, all of it or nothing.
func (p evidencePack) write(to target) (exported, error) {
	first, content := evidencePack.headerJSON, evidencePack.contentJSON
	if to.format == "csv" {
		first, content = evidencePack.headerCSV, evidencePack.contentCSV
	}
	body, err := content(p)
	if err != nil {
		return exported{}, err
	}
	sum := sha256.Sum256(body)
	p.What, p.Numbers, p.SHA256 = "reconciled fiscal duplicates", len(p.duplicates), hex.EncodeToString(sum[:])
	header, err := first(p)
	if err == nil {
		err = writeWhole(to.path, append(header, body...))
	}
	if err != nil {
		return exported{}, fmt.Errorf("export %s: %w", to.path, err)
	}
	return exported{Path: to.path, SHA256: p.SHA256}, nil
}

// writeWhole writes a file that others cannot read, under another name until it is
// whole and on the disk.
func writeWhole(path string, text []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".reconciled-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// A pack in JSON is one document, whose header is on the first line.
func (p evidencePack) headerJSON() ([]byte, error) {
	header, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("print header: %w", err)
	}
	return fmt.Appendf(nil, "{\"header\": %s,\n", header), nil
}

func (p evidencePack) contentJSON() ([]byte, error) {
	var body bytes.Buffer
	body.WriteString(`"duplicates": `)
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p.duplicates); err != nil {
		return nil, fmt.Errorf("print evidence: %w", err)
	}
	body.WriteString("}\n")
	return body.Bytes(), nil
}

// In CSV it is a line for each sale, behind one for the header and one that names the
// columns.
func (p evidencePack) headerCSV() ([]byte, error) {
	what := p.What
	if p.Resolved {
		what += " --resolved"
	}
	return csvLine(what, "made_at "+p.Made.Format(time.RFC3339), "version "+p.Version, "installation "+p.Installation.String(),
		"of "+p.Stores, fmt.Sprintf("%d numbers", p.Numbers), "SHA-256 of what follows "+p.SHA256)
}

func (p evidencePack) contentCSV() ([]byte, error) {
	var names []string
	for _, c := range packColumns {
		names = append(names, c.name)
	}
	body, err := csvLine(names...)
	if err != nil {
		return nil, err
	}
	for _, d := range p.duplicates {
		for _, sale := range d.Sales {
			members := membersOf(d, sale)
			cells := make([]string, len(packColumns))
			for i, c := range packColumns {
				cells[i] = members.first(strings.Fields(c.from)...)
			}
			line, err := csvLine(cells...)
			if err != nil {
				return nil, err
			}
			body = append(body, line...)
		}
	}
	return body, nil
}

// packColumns are those of the CSV, and the members that they are of: the first that
// the sale has. Of what it has several of, all are in one cell.
var packColumns = []struct{ name, from string }{
	{"number", "number"},
	{"series", "series.series_code series_id"},
	{"series_id", "series_id"},
	{"store", "store"},
	{"store_id", "store_id"},
	{"sale", "sale"},
	{"voided", "voided"},
	{"void_evidence", "void_evidence"},
	{"void_reason", "row.void_reason"},
	{"projected", "projected"},
	{"sold_at", "row.sold_at said.sold_at"},
	{"fiscal_number", "row.fiscal_number said.fiscal_number"},
	{"invoice_number", "row.invoice_number said.invoice_number"},
	{"invoice_full_number", "row.invoice_full_number"},
	{"currency", "row.currency said.currency"},
	{"exchange_rate", "row.exchange_rate said.exchange_rate"},
	{"subtotal_bs", "row.totals.subtotal_bs said.totals.subtotal_bs"},
	{"subtotal_usd", "row.totals.subtotal_usd said.totals.subtotal_usd"},
	{"total_bs", "row.totals.total_bs said.totals.total_bs"},
	{"total_usd", "row.totals.total_usd said.totals.total_usd"},
	{"payment_method", "row.payment.method said.payment.method"},
	{"customer_id", "row.customer_id said.customer.customer_id said.customer_id"},
	{"customer", "customer.name said.customer.name said.customer_name"},
	{"customer_document", "customer.document_id said.customer.document_id"},
	{"seller_id", "row.sold_by_user_id actor"},
	{"seller", "seller.full_name"},
	{"devices", "devices"},
	{"ranges", "ranges"},
	{"fiscal_invoices", "invoices"},
	{"events", "events.id"},
	{"events_created_at", "events.created_at"},
	{"events_received_at", "events.received_at"},
	{"payload_hashes", "events.hash"},
	{"computed_hashes", "events.computed"},
	{"hash_verdicts", "events.verdict"},
}

var decimal = regexp.MustCompile(`^[+-]?[0-9]+([.][0-9]+)?$`)

// csvLine is a line of CSV. A spreadsheet takes a cell that begins with one of these
// for a formula, unless a quote is before it; the wide ones, too, in some languages.
func csvLine(cells ...string) ([]byte, error) {
	for i, cell := range cells {
		if begins := strings.TrimLeft(cell, " "); begins != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(begins)[0]) && !decimal.MatchString(cell) {
			cells[i] = "'" + cell
		}
	}
	var line bytes.Buffer
	w := csv.NewWriter(&line)
	w.UseCRLF = true // RFC 4180
	if err := w.Write(cells); err != nil {
		return nil, fmt.Errorf("print a line of CSV: %w", err)
	}
	w.Flush()
	return line.Bytes(), w.Error()
}
