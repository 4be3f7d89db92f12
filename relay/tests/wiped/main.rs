//! With the allocator of the relay's process nothing of what was freed is found in its memory.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is the test's result")]

mod search;

/// As in the relay's `main`.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

#[test]
fn what_was_freed_is_gone() {
    assert_eq!(search::found_after_the_end(), [0, 0]);
}
