//! Tiles hold what their path says, and a path has one form.

use base::Digest;
use ledger::log::{TILE_WIDTH, Tile, TileKind, leaf_hash};

use crate::{entry, tree};

#[test]
fn paths_have_one_form() {
    let hashes = |level, index, width| Some(Tile { kind: TileKind::Hashes(level), index, width });
    let good = [
        ("0/000", hashes(0, 0, 256)),
        ("0/x001/x234/067", hashes(0, 1_234_067, 256)),
        ("1/001.p/7", hashes(1, 1, 7)),
        ("63/000.p/255", hashes(63, 0, 255)),
        ("entries/x001/000.p/12", Some(Tile { kind: TileKind::Entries, index: 1000, width: 12 })),
    ];
    for (path, tile) in good {
        assert_eq!(Tile::parse(path), tile, "{path}");
        assert_eq!(tile.unwrap().path(), path);
    }
    let bad = [
        "",
        "0",
        "0/",
        "00/000",
        "64/000",
        "-1/000",
        "+1/000",
        "0/0",
        "0/0000",
        "0/x000/001",
        "0/001/002",
        "0/x001",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/",
        "0/000.p/01",
        "0/000.p/1/2",
        "data/000",
        "entries/",
        "0/a00",
        "0/x999/x999/x999/x999/x999/x999/x999/999",
        "0/000/",
        "0/ 00",
        "0/\u{660}00",
    ];
    for path in bad {
        assert_eq!(Tile::parse(path), None, "{path}");
    }
}

#[test]
fn tiles_are_the_hashes_and_entries_of_the_tree_as_far_as_it_goes() {
    // The example of tlog-tiles: 273 full tiles, one of 112; one full, one of 17; one of 1.
    let tree = tree(70_000);
    let sizes = [
        ("0/272", Some(256)),
        ("0/273", None),
        ("0/273.p/112", Some(112)),
        ("0/273.p/113", None),
        ("1/000", Some(256)),
        ("1/001.p/17", Some(17)),
        ("1/001.p/18", None),
        ("1/001", None),
        ("2/000.p/1", Some(1)),
        ("2/000.p/2", None),
        ("3/000.p/1", None),
        ("8/000.p/1", None),
        ("63/000", None),
    ];
    for (path, hashes) in sizes {
        let bytes = Tile::parse(path).unwrap().bytes(&tree);
        assert_eq!(bytes.map(|bytes| bytes.len()), hashes.map(|count| count * 32), "{path}");
    }
    let leaves = Tile::parse("0/001").unwrap().bytes(&tree).unwrap();
    assert_eq!(leaves[..32], entry(TILE_WIDTH).leaf_hash().0);
    let above = Tile::parse("1/000").unwrap().bytes(&tree).unwrap();
    assert_eq!(above[32..64], hash_of(&leaves).0);
    let entries = Tile::parse("entries/273.p/112").unwrap().bytes(&tree).unwrap();
    assert_eq!(entries.len(), 112 * 35);
    assert_eq!(entries[..2], [0, 33]);
    assert_eq!(leaf_hash(&entries[2..35]), entry(273 * 256).leaf_hash());
}

fn hash_of(hashes: &[u8]) -> Digest {
    let mut level: Vec<Vec<u8>> = hashes.chunks(32).map(<[u8]>::to_vec).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| Digest::of(&[&[1], &pair[0][..], &pair[1][..]].concat()).0.to_vec())
            .collect();
    }
    Digest::from_slice(&level[0]).unwrap()
}
