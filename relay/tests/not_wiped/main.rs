//! The negative control of `wiped`: with another allocator the same search finds what was freed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is the test's result")]

#[path = "../wiped/search.rs"]
mod search;

#[test]
fn what_was_freed_is_found_where_nothing_wipes_it() {
    let [freed, _] = search::found_after_the_end();
    assert!(freed > 10, "{freed}");
}
