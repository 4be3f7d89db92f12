//! The relay over real sockets on the loopback interface, each file one behaviour.

mod common;
mod passage;
