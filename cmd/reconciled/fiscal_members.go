package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// members is what is known of a sale, as text by path: "row.totals.total_bs" is its
// row's total, "said.totals.total_bs" its event's. Numbers are as they are spelled.
type members map[string]string

// first is the first of some members that is not empty.
func (m members) first(paths ...string) string {
	for _, path := range paths {
		if m[path] != "" {
			return m[path]
		}
	}
	return ""
}

// each adds a member of which there are several, separated by semicolons.
func (m members) each(path, text string) {
	if m[path] != "" {
		text = m[path] + "; " + text
	}
	m[path] = text
}

// add adds what a JSON text has in its objects; arrays and null have none.
func (m members) add(path string, raw json.RawMessage) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) == nil {
		m.addValue(path, value)
	}
}

func (m members) addValue(path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			m.addValue(path+"."+name, inner)
		}
	case string, json.Number, bool:
		m[path] = fmt.Sprint(v)
	}
}

func membersOf(d postgres.FiscalEvidence, sale postgres.SaleEvidence) members {
	m := members{
		"number": d.Number, "series_id": d.Series.String(), "store": sale.StoreName, "store_id": sale.Store.String(), "sale": sale.String(),
		"voided": yesNo(sale.Voided), "void_evidence": strings.Join(sale.Voids, "; "), "projected": yesNo(sale.Row != nil),
	}
	m.add("series", d.SeriesRow)
	m.add("row", sale.Row)
	m.add("customer", sale.Customer)
	m.add("seller", sale.Seller)
	for _, e := range sale.Events {
		if e.Type == velox.SaleCreated {
			m.add("said", e.Said)
			if e.Actor.Valid {
				m["actor"] = e.Actor.UUID.String()
			}
			if device := e.Device.String(); !strings.Contains(m["devices"], device) {
				m.each("devices", device)
			}
		}
		m.each("events.id", string(e.Type)+" "+e.ID.String())
		m.each("events.created_at", e.Created)
		m.each("events.received_at", e.Received)
		m.each("events.hash", e.Hash)
		m.each("events.computed", e.Computed)
		m.each("events.verdict", e.Verdict)
	}
	for _, r := range sale.Ranges {
		one := members{}
		one.add("r", r)
		m.each("ranges", fmt.Sprintf("%s-%s of series %s, device %s, used up to %s, %s", one["r.range_start"], one["r.range_end"],
			one["r.series_id"], one["r.device_id"], one["r.used_up_to"], one["r.status"]))
	}
	for _, f := range sale.Invoices {
		one := members{}
		one.add("f", f)
		m.each("invoices", fmt.Sprintf("%s %s, number %s, fiscal number %s, issued at %s", one["f.invoice_type"], one["f.status"],
			one["f.invoice_number"], one["f.fiscal_number"], one["f.issued_at"]))
	}
	return m
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
