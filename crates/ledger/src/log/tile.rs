//! Tiles (C2SP tlog-tiles): the tree in pieces of 256 hashes, and its entries in pieces of 256.

use super::tree::LogTree;

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 256;
const TILE_LEVELS: u32 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileKind {
    /// Hashes at this level of tiles: 0 those of leaves.
    Hashes(u32),
    /// Entries.
    Entries,
}

/// One tile, as its path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Which of its level.
    pub index: u64,
    /// How many it holds: 1 to 256.
    pub width: u64,
}

impl Tile {
    /// Reads what follows `/tile/`: `0/x001/x234/067`, `entries/000.p/12`, … in its one form.
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(decimal(level, 63)?.try_into().ok()?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, decimal(width, TILE_WIDTH - 1).filter(|width| *width > 0)?),
            None => (rest, TILE_WIDTH),
        };
        let tile = Self { kind, index: parse_index(index)?, width };
        (tile.path() == path).then_some(tile)
    }

    /// The path of it, without `/tile/`.
    pub fn path(&self) -> String {
        let kind = match self.kind {
            TileKind::Hashes(level) => level.to_string(),
            TileKind::Entries => "entries".to_owned(),
        };
        let mut index = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            index = format!("x{:03}/{index}", rest % 1000);
            rest /= 1000;
        }
        match self.width {
            TILE_WIDTH => format!("{kind}/{index}"),
            width => format!("{kind}/{index}.p/{width}"),
        }
    }

    /// The number of entries that a tree needs to have all of it.
    pub fn end(&self) -> Option<u64> {
        let last = self.index.checked_mul(TILE_WIDTH)?.checked_add(self.width)?;
        match self.kind {
            TileKind::Entries => Some(last),
            TileKind::Hashes(level) => last.checked_mul(1u64.checked_shl(level.checked_mul(TILE_LEVELS)?)?),
        }
    }

    /// Its bytes, if the tree has all of it.
    pub fn bytes(&self, tree: &LogTree) -> Option<Vec<u8>> {
        let start = self.index.checked_mul(TILE_WIDTH)?;
        let numbers = start..start.checked_add(self.width)?;
        let mut bytes = Vec::new();
        match self.kind {
            TileKind::Hashes(level) => {
                let level = level.checked_mul(TILE_LEVELS).filter(|level| *level < u64::BITS)?;
                for number in numbers {
                    bytes.extend(tree.node(level, number)?.0);
                }
            }
            TileKind::Entries => {
                for number in numbers {
                    let entry = tree.entry(number)?;
                    bytes.extend(u16::try_from(entry.len()).ok()?.to_be_bytes());
                    bytes.extend(entry);
                }
            }
        }
        Some(bytes)
    }
}

fn decimal(text: &str, max: u64) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number <= max && number.to_string() == text)
}

fn parse_index(text: &str) -> Option<u64> {
    let mut parts = text.split('/').collect::<Vec<_>>();
    let last = parts.pop()?;
    let mut index = 0u64;
    for part in parts.iter().map(|part| part.strip_prefix('x')).chain([Some(last)]) {
        let part = part.filter(|part| part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        index = index.checked_mul(1000)?.checked_add(part.parse().ok()?)?;
    }
    Some(index)
}
