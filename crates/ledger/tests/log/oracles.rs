//! What other people's code says: ct-merkle and Cloudflare's ports of Go's note and tlog packages.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use identity::SignatureType;
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Hash, HashReader, check_record, check_tree, prove_record, prove_tree, split_stored_hash_index,
};

use ledger::log::{LogTree, Tile};

use crate::{checkpoint, entry, head, key, tree};

/// Other sizes around the steps at which levels are kept, and odd ones.
const SIZES: [u64; 12] = [1, 2, 15, 16, 17, 255, 256, 257, 1000, 4095, 4096, 5001];

/// Lets tlog read our tree by its own numbering of hashes.
struct Reader<'a>(&'a LogTree);

impl HashReader for Reader<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let read = |index: &u64| {
            let (level, number) = split_stored_hash_index(*index);
            Hash(self.0.node(level.into(), number).unwrap().0)
        };
        Ok(indexes.iter().map(read).collect())
    }
}

#[test]
fn roots_are_those_of_ct_merkle_at_every_size() {
    let (mut ours, mut theirs) = (LogTree::new(), MemoryBackedTree::<Sha256, Vec<u8>>::new());
    for number in 0..5001 {
        let bytes = entry(number).to_bytes();
        ours.push(bytes);
        theirs.push(bytes.to_vec());
        assert_eq!(ours.root().0, <[u8; 32]>::from(*theirs.root().as_bytes()), "{number}");
    }
}

#[test]
fn tlog_makes_the_same_proofs_and_accepts_ours() {
    let whole = tree(5001);
    for size in SIZES {
        let root = Hash(whole.root_at(size).unwrap().0);
        assert_eq!(tlog_tiles::tree_hash(size, &Reader(&whole)).unwrap(), root);
        for index in [0, 1, size / 3, size / 2, size - 1].into_iter().filter(|index| *index < size) {
            let ours: Vec<_> =
                whole.prove_inclusion(index, size).unwrap().iter().map(|d| Hash(d.0)).collect();
            assert_eq!(ours, prove_record(size, index, &Reader(&whole)).unwrap(), "{index} of {size}");
            check_record(&ours, size, root, index, Hash(entry(index).leaf_hash().0)).unwrap();
        }
        for old in SIZES.into_iter().filter(|old| *old <= size) {
            let ours: Vec<_> =
                whole.prove_consistency(old, size).unwrap().iter().map(|d| Hash(d.0)).collect();
            assert_eq!(ours, prove_tree(size, old, &Reader(&whole)).unwrap(), "{old} to {size}");
            check_tree(&ours, size, root, old, Hash(whole.root_at(old).unwrap().0)).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_is_read_and_its_ed25519_signature_verified_by_others() {
    let (tree, log) = (tree(300), key("relay-1", 1));
    let text = checkpoint(&tree).to_text();
    let origin = head(&tree).origin;
    let verifier = |key: &identity::LogKey| {
        let line = key.public().verifier_key(SignatureType::Ed25519, &origin);
        VerifierList::new(vec![Box::new(StandardVerifier::new(&line).unwrap())])
    };
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    let (verified, unverified) = note.verify(&verifier(&log)).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 1), "Ed25519; ML-DSA-44 is unknown to them");
    assert!(note.verify(&verifier(&key("relay-1", 2))).is_err());
    let changed = text.replace("\n300\n", "\n301\n");
    assert!(Note::from_bytes(changed.as_bytes()).unwrap().verify(&verifier(&log)).is_err());
    let theirs = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (origin.as_str(), 300, tree.root().0));
}

#[test]
fn tiles_have_the_paths_and_bytes_of_tlog() {
    let whole = tree(70_000);
    let tiles = tlog_tiles::Tile::new_tiles(8, 0, 70_000);
    assert!(tiles.len() > 270);
    for theirs in tiles {
        let path = theirs.path();
        let ours = Tile::parse(path.strip_prefix("tile/8/").or_else(|| path.strip_prefix("tile/")).unwrap())
            .unwrap();
        assert_eq!(ours.bytes(&whole).unwrap(), theirs.read_data(&Reader(&whole)).unwrap(), "{path}");
    }
}
