//! Receipts from outside: batches, files, and vectors for other implementations.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod common;
#[cfg(test)]
mod files;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod second;
#[cfg(test)]
mod vectors;
