//! Any bytes as a message of the handshake: what can be read can be written and read again.
//!
//! `cargo fuzz run --sanitizer none handshake fuzz/corpus/handshake fuzz/seeds/handshake`

#![no_main]

#[path = "../../distcache-transport/tests/counting/mod.rs"]
mod counting;

use distcache_transport::fuzzing;
use libfuzzer_sys::fuzz_target;

/// A message has at most 4 KiB; it is read, written and read again, and text is checked for being UTF-8.
const MOST: usize = 32 << 10;

fn run(input: &[u8]) {
    let ((), grown) = counting::growth(|| fuzzing::handshake(input));
    assert!(grown <= MOST, "{grown} bytes held for a message of {}", input.len());
}

fuzz_target!(|input: &[u8]| run(input));
