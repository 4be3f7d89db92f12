use std::sync::Arc;

/// An append-only list in pieces that are shared: a clone costs one pointer a piece, and what is appended afterwards
/// copies the last piece at most. So a reader elsewhere can take all of a growing list at any moment.
#[derive(Clone, Debug)]
pub struct Column<T> {
    pieces: Vec<Arc<Vec<T>>>,
    len: u64,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

impl<T: Copy> Column<T> {
    const PIECE: usize = 4096;

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one.
    pub fn push(&mut self, value: T) {
        match self.pieces.last_mut().filter(|piece| piece.len() < Self::PIECE) {
            Some(piece) => Arc::make_mut(piece).push(value),
            None => {
                let mut piece = Vec::with_capacity(Self::PIECE);
                piece.push(value);
                self.pieces.push(Arc::new(piece));
            }
        }
        self.len += 1;
    }

    /// Number `index`, from 0.
    pub fn get(&self, index: u64) -> Option<T> {
        let index = usize::try_from(index).ok()?;
        self.pieces.get(index / Self::PIECE)?.get(index % Self::PIECE).copied()
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity() * size_of::<T>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw_while_the_list_grows() {
        let mut column = Column::default();
        assert!(column.is_empty() && column.get(0).is_none());
        let mut seen = Vec::new();
        for value in 0..10_000u64 {
            if value % 1_111 == 0 {
                seen.push(column.clone());
            }
            column.push(value);
        }
        for (clone, len) in seen.iter().zip((0..).step_by(1_111)) {
            assert_eq!(clone.len(), len);
            assert_eq!((0..).map_while(|i| clone.get(i)).collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
        assert_eq!(column.get(9_999), Some(9_999));
        assert_eq!(column.get(10_000), None);
        assert!(column.bytes() >= 80_000);
    }
}
