package fleet

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// product is one that the shop sells.
type product struct {
	id        uuid.UUID
	variants  []uuid.UUID
	usd       int64 // price in cents
	byWeight  bool
	idle      bool // never stocked nor sold: nothing depends on it
	retired   bool // not sold any more
	recipe    bool
	quoted    bool // tills get quotas of it
	threshold int64
}

type customer struct {
	id   uuid.UUID
	name string
}

// born counts the products that events have made.
func (s *Shop) born() int { return len(s.products) - len(s.ref.Products) }

func (s *Shop) createProduct() {
	n := s.born()
	p := &product{
		id: s.id(), usd: s.between(35, 3500), byWeight: n%7 == 4, idle: n%10 == 5, quoted: n%3 == 2 && n%10 != 5 && n%7 != 4,
		threshold: s.between(0, 12),
	}
	s.products = append(s.products, p)
	cost := p.usd * 3 / 4
	payload := object{
		"product_id":          p.id.String(),
		"name":                fmt.Sprintf("%s %s %d", pick(s, goods), pick(s, brands), n+1),
		"price_bs":            s.amount(s.bs(p.usd), 2),
		"price_usd":           s.amount(p.usd, 2),
		"cost_bs":             s.amount(s.bs(cost), 2),
		"cost_usd":            s.amount(cost, 2),
		"is_active":           true,
		"low_stock_threshold": p.threshold,
	}
	if s.chance(2) {
		payload["category"] = pick(s, []string{"Víveres", "Limpieza", "Bebidas"})
		payload["sku"] = fmt.Sprintf("SKU-%05d", n+1)
		payload["barcode"] = fmt.Sprintf("759%010d", n+1)
	}
	if s.chance(3) {
		payload["profit_margin"] = s.amount(3333, 2)
		payload["description"] = "Línea \"económica\"\n" + pick(s, brands)
		payload["image_url"] = nil
		payload["is_visible_public"] = true
		payload["public_name"] = ""
	}
	if s.chance(9) {
		payload["is_recipe"] = true
		p.recipe = true
	}
	s.ring(s.tills[0], velox.ProductCreated, payload)
	if !p.idle {
		s.receiveProduct(s.tills[0], p, uuid.Nil, s.ref.Warehouses[0])
	}
}

func (s *Shop) createCustomer() {
	c := customer{id: s.id(), name: pick(s, firstNames) + " " + pick(s, lastNames)}
	s.customers = append(s.customers, c)
	payload := object{"customer_id": c.id.String(), "name": c.name, "phone": fmt.Sprintf("0414-%07d", s.between(0, 9999999))}
	if s.chance(3) {
		payload["document_id"] = fmt.Sprintf("V-%08d", s.between(1000000, 30000000))
		payload["email"] = strings.ToLower(strings.Fields(c.name)[0]) + "@example.com"
		payload["credit_limit"] = s.amount(s.between(10, 500)*100, 2)
	}
	if s.chance(4) {
		payload["note"] = "Vecino 🏠"
	}
	s.ring(s.anyTill(), velox.CustomerCreated, payload)
}

// bs converts cents of USD at the day's rate, to cents of Bs.
func (s *Shop) bs(usd int64) int64 { return (usd*s.rate + 50) / 100 }

var (
	goods = []string{
		"Harina", "Arroz", "Pasta", "Café", "Azúcar", "Aceite", "Jabón", "Leche", "Queso", "Atún",
		"Salsa", "Galletas", "Detergente", "Avena", "Margarina", "Refresco", "Papel", "Cloro",
	}
	brands     = []string{"Doña Ana", "El Ávila", "La Casona", "Orinoco", "Tepuy", "Caribe"}
	firstNames = []string{"María", "José", "Carmen", "Luis", "Ana", "Pedro", "Rosa", "Íñigo"}
	lastNames  = []string{"Pérez", "Rodríguez", "Núñez", "Salazar", "Rivas", "Mendoza", "D'Elía"}
)
