package merkle

import (
	"encoding/hex"
	"testing"
)

func TestContentCannotMoveBetweenFields(t *testing.T) {
	key := Key{At: 1}
	seen := map[Digest]string{}
	for name, c := range map[string]Content{
		"NULL said":             {Type: "a"},
		"empty said":            {Type: "a", Said: []byte{}},
		"text moved to said":    {Type: "", Said: []byte("a")},
		"separator in type":     {Type: "a\x01", Said: []byte{}},
		"1.0":                   {Said: []byte("1.0")},
		"1":                     {Said: []byte("1")},
		"é composed":            {Said: []byte("\u00e9")},
		"é decomposed":          {Said: []byte("e\u0301")},
		"version in seq":        {Seq: 1},
		"seq in version":        {Version: 1},
		"device in store":       {Store: [16]byte{1}},
		"store in device":       {Device: [16]byte{1}},
		"length-like bytes":     {Type: "\x01\x00\x00\x00\x01a"},
		"length-like bytes (2)": {Said: []byte("\x01\x00\x00\x00\x01a")},
	} {
		digest := NewItem(key, c).Digest
		if other, taken := seen[digest]; taken {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[digest] = name
	}
}

func TestItemDigestIsWrittenDown(t *testing.T) {
	// Taken by another program from the definition. Any change to it is a new DigestVersion.
	got := NewItem(Key{At: 1_795_439_776_587, ID: [16]byte{0x41, 15: 0x3f}}, Content{
		Store: [16]byte{0x11}, Device: [16]byte{0xaa}, Seq: 1, Type: "ProductCreated", Version: 1, Said: []byte(`{"a": 1}`),
	}).Digest
	if want := "6f5bc23c177eb94d2699e062b1b8461b639db13d5d22e094f87438ac862e9ece"; hex.EncodeToString(got[:]) != want {
		t.Errorf("item digest %x, want %s", got, want)
	}
}
