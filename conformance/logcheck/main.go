// logcheck verifies what a relay shows of its log by code of the Go project (golang.org/x/mod/sumdb): the signed note, the
// tiles, inclusion of each entry, consistency with an older head.
//
//	logcheck DIR KEY    KEY is the Ed25519 verifier key, as the relay's page shows it
//
// DIR has old and new (checkpoints), tile/... as served, and proofs.json:
// {"inclusion": [{"index", "leaf_hash", "path"}], "consistency": [hash, ...]}, in hexadecimal.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proofs struct {
	Inclusion []struct {
		Index int64    `json:"index"`
		Leaf  string   `json:"leaf_hash"`
		Path  []string `json:"path"`
	} `json:"inclusion"`
	Consistency []string `json:"consistency"`
}

// tiles reads what was served. Go's paths name the tile's height, those of C2SP do not.
type tiles struct{ dir string }

func (t tiles) Height() int                         { return 8 }
func (t tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(t.dir, path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func head(path string, verifier note.Verifier) (tree tlog.Tree) {
	text, err := os.ReadFile(path)
	must(err)
	opened, err := note.Open(text, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		log.Fatalf("%s: not three lines of %s", path, verifier.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	must(err)
	tree.Hash, err = tlog.ParseHash(lines[2])
	must(err)
	return tree
}

func hashes(texts []string) (found []tlog.Hash) {
	for _, text := range texts {
		var hash tlog.Hash
		data, err := hex.DecodeString(text)
		must(err)
		if len(data) != len(hash) {
			log.Fatalf("not a hash: %s", text)
		}
		copy(hash[:], data)
		found = append(found, hash)
	}
	return found
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(0)
	dir := os.Args[1]
	verifier, err := note.NewVerifier(os.Args[2])
	must(err)
	old, tree := head(filepath.Join(dir, "old"), verifier), head(filepath.Join(dir, "new"), verifier)

	text, err := os.ReadFile(filepath.Join(dir, "proofs.json"))
	must(err)
	var given proofs
	must(json.NewDecoder(bytes.NewReader(text)).Decode(&given))
	reader := tlog.TileHashReader(tree, tiles{dir})

	if int64(len(given.Inclusion)) != tree.N {
		log.Fatalf("%d proofs for %d entries", len(given.Inclusion), tree.N)
	}
	for _, one := range given.Inclusion {
		leaf, path := hashes([]string{one.Leaf})[0], hashes(one.Path)
		must(tlog.CheckRecord(path, tree.N, tree.Hash, one.Index, leaf))
		stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, one.Index)})
		must(err)
		proved, err := tlog.ProveRecord(tree.N, one.Index, reader)
		must(err)
		if stored[0] != leaf || !reflect.DeepEqual([]tlog.Hash(proved), path) {
			log.Fatalf("entry %d: tiles and proof differ", one.Index)
		}
	}
	path := hashes(given.Consistency)
	must(tlog.CheckTree(path, tree.N, tree.Hash, old.N, old.Hash))
	proved, err := tlog.ProveTree(tree.N, old.N, reader)
	must(err)
	if !reflect.DeepEqual([]tlog.Hash(proved), path) {
		log.Fatal("consistency: tiles and proof differ")
	}
	fmt.Printf("%d entries of %s, continuing %d\n", tree.N, verifier.Name(), old.N)
}
