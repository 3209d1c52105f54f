package merkle

import (
	"testing"

	"pgregory.net/rapid"
)

func TestATreeDependsOnItsLeavesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := map[int64]Leaf{}
		var grown Tree
		for range rapid.IntRange(0, 50).Draw(t, "changes") {
			slot := rapid.Int64Range(-40, 40).Draw(t, "slot")
			leaf := Leaf{Count: uint32(rapid.IntRange(0, 3).Draw(t, "count"))}
			leaf.Digest[0] = byte(leaf.Count)
			slots[slot] = leaf
			grown = grown.Apply([]Change{{slot, leaf}})
		}
		var changes []Change
		for slot, leaf := range slots {
			changes = append(changes, Change{slot, leaf})
			if got := grown.Leaf(slot); got.Count != leaf.Count {
				t.Fatalf("slot %d holds %d, want %d", slot, got.Count, leaf.Count)
			}
		}
		if built := (Tree{}).Apply(changes); built.Root() != grown.Root() {
			t.Fatal("the tree remembers how it was made")
		}
	})
}

func TestAPinnedTreeDoesNotMove(t *testing.T) {
	pinned := Tree{}.Apply([]Change{{1, Leaf{Count: 1}}, {2, Leaf{Count: 2}}})
	root := pinned.Root()
	pinned.Apply([]Change{{1, Leaf{Count: 9}}, {2, Leaf{}}})
	if pinned.Root() != root {
		t.Error("a change to the tree changed the one it was made of")
	}
}
