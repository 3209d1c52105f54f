package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// AgreementToken names the state that two sides found to be the same: its root
// and the list of what they left out.
func AgreementToken(root Summary, exceptions Token) (t Token) {
	b := append([]byte{tagAgreement}, root.Digest[:]...)
	b = binary.BigEndian.AppendUint64(b, root.Count)
	sum := sha256.Sum256(append(b, exceptions[:]...))
	copy(t[:], sum[:])
	return t
}

// ListToken names a list of exceptions, whatever their order; zero when it is
// empty.
func ListToken(list []Exception) (t Token) {
	if len(list) == 0 {
		return t
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b Exception) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	h := sha256.New()
	h.Write([]byte{tagList})
	for _, e := range sorted {
		h.Write(e.ID[:])
		h.Write(e.Digest[:])
	}
	copy(t[:], h.Sum(nil))
	return t
}
